"""Adapters out of the storage, onto a disk from which a vLLM can read them."""

import secrets
import shutil
from pathlib import Path

from app.errors import AdapterRefused
from app.infra.storage import Storage
from app.serving import adapters
from app.settings import Settings
from evaluation.atomic_files import place_folder

MAX_RANK = 512  # of training.config.Lora; which rank a vLLM takes is checked by whoever loads


class Damaged(AdapterRefused):
    """A file of the storage is not what was put there."""

    code = "artifact_damaged"


def fetch_adapter(storage: Storage, key: str, sha256: str, folder: Path, max_rank: int = MAX_RANK) -> Path:
    """The adapter as `folder`/<sha256>, checked, for app.serving.adapters; fetched only where it is not there yet.

    Raises: AdapterRefused, FileNotFoundError, NoSpace.
    """
    final = folder / sha256
    if final.is_dir() and _is_whole(final, sha256, max_rank):
        return final
    folder.mkdir(parents=True, exist_ok=True)
    staging = folder / f".incoming-{secrets.token_hex(6)}"
    try:
        for name in adapters.FILES:
            storage.get_file(key + name, staging / name)
        if storage.exists(key + adapters.ENCODER):
            storage.get_file(key + adapters.ENCODER, staging / adapters.ENCODER)
        if adapters.check(staging, max_rank).sha256 != sha256:
            raise Damaged("an adapter in the storage is not the one that was put there")
        _move(staging, final, sha256, max_rank)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return final


def fetch_for_serving(storage: Storage, settings: Settings, key: str, sha256: str) -> Path:
    """The adapter's folder. It is never removed while a vLLM may have it: that would end the vLLM.

    Raises: AdapterRefused, FileNotFoundError, NoSpace.
    """
    return fetch_adapter(storage, key, sha256, settings.home / "adapters", settings.vllm_max_lora_rank)


def _move(staging: Path, final: Path, sha256: str, max_rank: int) -> None:
    """Somebody else may have been faster, or have left something broken."""
    if final.exists() and not _is_whole(final, sha256, max_rank):
        shutil.rmtree(final, ignore_errors=True)
    try:
        place_folder(staging, final)
    except OSError:
        if not _is_whole(final, sha256, max_rank):
            raise


def _is_whole(folder: Path, sha256: str, max_rank: int) -> bool:
    try:
        return adapters.check(folder, max_rank).sha256 == sha256
    except (AdapterRefused, OSError):
        return False
