"""The base model on disk, and the answer codes that its tokenizer allows."""

import functools
import hashlib
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tokenizers import Tokenizer

from app.errors import InputError
from app.serving import shipped_base
from app.settings import Settings, load_settings
from evaluation.contract import budget
from evaluation.contract.chat import ChatFormError
from evaluation.contract.render import CodesError
from evaluation.contract.schema import CategorySchema
from evaluation.inference.tokenizer_files import Codes, check_template, load_codes
from training.base import package

if TYPE_CHECKING:  # commands on files have no database, and are not to wait for its library
    from app.infra.tables.runs import ModelVersion

SHIPPED: Final = package.NAME
STARTER: Final = "starter"  # tiny, and of use in tests alone
_CONTEXT = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")  # by family


class ModelBase(NamedTuple):
    name: str
    folder: Path


def find_base(
    name: str, home: Path | None = None, told: Callable[[str], None] = lambda _line: None
) -> ModelBase:
    """The base that ships, `starter`, a folder, or a Hugging Face name (downloaded where that is allowed).

    home: below which the base that ships is kept; the environment's where it is not said. told: what is being done,
    where that base has to be built first. Raises: InputError.
    """
    if name == SHIPPED:
        built = shipped_base.folder(home or load_settings().home, told)
        return ModelBase(name, _complete(built, "delete that folder and try again"))
    if name == STARTER:
        return ModelBase(
            name, _complete(_starter_folder(), "reinstall the project or train it: training/starter")
        )
    if Path(name).is_dir():
        folder = _complete(Path(name).resolve(), "name the folder that holds the model")
        return ModelBase(str(folder), folder)
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise InputError(
            f"there is no base model {name!r}: neither `{SHIPPED}`, nor a folder, nor owner/name"
        )
    return ModelBase(
        name, _complete(_from_hub(name), "choose a model with safetensors weights and a tokenizer.json")
    )


def served_base(settings: Settings, model: "ModelVersion") -> ModelBase:
    """The base that the replicas serve.

    Raises: InputError where the model was trained on another, or for longer answers than are read here.
    """
    base = find_base(settings.base, settings.home)
    problem = _misfit(base, model)
    if problem is not None:
        raise InputError(problem)
    return base


def misfit(settings: Settings, model: "ModelVersion") -> str | None:
    """Why the model must not answer here, whatever gate it has passed; None where it may. Raises: InputError."""
    return _misfit(find_base(settings.base, settings.home), model)


def _misfit(base: ModelBase, model: "ModelVersion") -> str | None:
    if digest(base) != model.base_sha256:
        return (
            f"the model was trained on another base than {base.name} as it is served now; train it again, or set "
            "STEERWISE_BASE to the base that it was trained on"
        )
    problem = budget.misfit(model.answer_tokens)
    return None if problem is None else f"the model cannot be served here: {problem}"


def codes_for(folder: Path, schema: CategorySchema, *others: CategorySchema) -> Codes:
    """One for each answer of any of them, and those that an edit may add: another category, and none of these.

    Raises: InputError.
    """
    return tried(folder, max(len(one.keys) for one in (schema, *others)) + 2)


def tried(folder: Path, count: int = 2) -> Codes:
    """The base is tried before it is relied on: its chat template, its control tokens, and that it has `count` codes.

    Raises: InputError.
    """
    try:
        check_template(folder)
        return load_codes(folder, count)
    except ChatFormError as error:
        raise InputError(f"the base model in {folder} cannot be used: {error}") from None
    except CodesError as error:
        raise InputError(str(error)) from None


def context_of(folder: Path, settings: Settings) -> int:
    """Tokens of a prompt and its answer, as they are served: what the settings say, or what the base was made for."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"the config.json of the base model in {folder} cannot be read: {error}") from None
    text = config.get("text_config") or config
    made_for = next((text[name] for name in _CONTEXT if isinstance(text.get(name), int)), None)
    longest = settings.vllm_max_model_len
    return longest if made_for is None else min(longest, made_for)


def token_counter(folder: Path) -> Callable[[list[str]], list[int]]:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def count(texts: list[str]) -> list[int]:
        return [len(encoding.ids) for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]

    return count


def digest(base: ModelBase) -> str:
    """Changes whenever the model does. Of the base that ships it is the same on every machine."""
    known = package.identity_of(base.folder)
    if known is not None:
        return known
    files = sorted(path for path in base.folder.iterdir() if path.is_file())
    stats = [path.stat() for path in files]
    return _content_digest(
        tuple((str(p), s.st_size, s.st_mtime_ns) for p, s in zip(files, stats, strict=True))
    )


@functools.lru_cache(maxsize=16)
def _content_digest(files: tuple[tuple[str, int, int], ...]) -> str:
    """Over the names and the whole contents. Sizes and times are only there so that it is counted once."""
    total = hashlib.sha256()
    for path, size, _ in files:
        with Path(path).open("rb") as file:
            total.update(f"{Path(path).name}\0{size}\0".encode())
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def _starter_folder() -> Path:
    spec = importlib.util.find_spec("training.starter")
    if spec is None or not spec.submodule_search_locations:
        raise InputError("the package training.starter is not installed")
    return Path(next(iter(spec.submodule_search_locations))) / "weights"


def _complete(folder: Path, advice: str) -> Path:
    missing = [name for name in ("config.json", "tokenizer.json") if not (folder / name).is_file()]
    if not any(folder.glob("*.safetensors")):
        missing.append("*.safetensors")
    if missing:
        raise InputError(f"the base model in {folder} has no {', '.join(missing)}; {advice}")
    return folder


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.jinja", "*.txt"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"the base model {name!r} could not be had: {reason}") from None
