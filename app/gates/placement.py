"""What a model needs on this machine before a vLLM can serve it: its base, and its adapters where vLLM reads them."""

from pathlib import Path

from app.errors import InputError
from app.infra.storage import Storage
from app.infra.tables.runs import ModelVersion
from app.serving.adapter_store import fetch_adapter
from app.serving.base import ModelBase, digest, find_base
from app.settings import Settings
from evaluation.contract import budget


def served_base(settings: Settings, model: ModelVersion) -> ModelBase:
    """The base that the replicas serve.

    Raises: InputError where the model was trained on another, or for longer answers than are read here.
    """
    base = find_base(settings.base, settings.home)
    problem = _misfit(base, model)
    if problem is not None:
        raise InputError(problem)
    return base


def misfit(settings: Settings, model: ModelVersion) -> str | None:
    """Why the model must not answer here, whatever gate it has passed; None where it may. Raises: InputError."""
    return _misfit(find_base(settings.base, settings.home), model)


def _misfit(base: ModelBase, model: ModelVersion) -> str | None:
    if digest(base) != model.base_sha256:
        return (
            f"the model was trained on another base than {base.name} as it is served now; train it again, or set "
            "STEERWISE_BASE to the base that it was trained on"
        )
    problem = budget.misfit(model.answer_tokens)
    return None if problem is None else f"the model cannot be served here: {problem}"


def place(storage: Storage, settings: Settings, key: str, sha256: str) -> Path:
    """The adapter's folder. It is never removed while a vLLM may have it: that would end the vLLM.

    Raises: AdapterRefused, FileNotFoundError, NoSpace.
    """
    folder, rank = settings.home / "adapters", settings.vllm_max_lora_rank
    return fetch_adapter(storage, key, sha256, folder, rank)
