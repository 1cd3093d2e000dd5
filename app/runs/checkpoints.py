"""A stage's newest checkpoint, kept in the storage so that a worker on another machine can go on from it.

On the same machine the stage finds its own in its folder, which may be newer.
"""

import json
import re
import shutil
import tarfile
from pathlib import Path
from typing import NamedTuple

from app.infra.storage import Storage
from training.protocol import CHECKPOINTS, COMPLETE

_NAME = re.compile(r"checkpoint-(\d+)")
_KEPT = re.compile(r"-(\d+)\.tar")


class Checkpoint(NamedTuple):
    step: int
    folder: Path


def newest(out: Path, manifest_sha256: str) -> Checkpoint | None:
    """The newest whole one that was made for this manifest."""
    found = [_read(path) for path in (out / CHECKPOINTS).glob(f"checkpoint-*/{COMPLETE}")]
    whole = [checkpoint for checkpoint, made_for in filter(None, found) if made_for == manifest_sha256]
    return max(whole, default=None)


def _read(mark: Path) -> tuple[Checkpoint, str] | None:
    """None where the trainer removes it at this moment."""
    try:
        made_for = json.loads(mark.read_bytes())["manifest_sha256"]
    except (OSError, ValueError, KeyError):
        return None
    named = _NAME.fullmatch(mark.parent.name)
    return None if named is None else (Checkpoint(int(named[1]), mark.parent), str(made_for))


def drop(out: Path) -> None:
    shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)


def pack(checkpoint: Checkpoint, workdir: Path) -> Path | None:
    """None where the trainer removed it meanwhile, for a newer one."""
    path = workdir / "checkpoint.tar"
    try:
        with tarfile.open(path, "w") as archive:
            archive.add(checkpoint.folder, arcname=checkpoint.folder.name)
    except FileNotFoundError:
        return None
    return path if (checkpoint.folder / COMPLETE).is_file() else None


def key_of(folder_key: str, kind: str, step: int) -> str:
    return f"{folder_key}/{kind}-{step}.tar"


def step_of(key: str) -> int:
    found = _KEPT.search(key)
    return int(found[1]) if found else -1


def restore(storage: Storage, key: str, out: Path, workdir: Path) -> None:
    """Into the folder of the stage, as if it had been made there. Raises: FileNotFoundError, NoSpace."""
    path, unpacked = workdir / "checkpoint.tar", workdir / "restored"
    storage.get_file(key, path)
    with tarfile.open(path) as archive:
        archive.extractall(unpacked, filter="data")
    (out / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    for folder in unpacked.iterdir():
        shutil.rmtree(out / CHECKPOINTS / folder.name, ignore_errors=True)
        shutil.move(folder, out / CHECKPOINTS / folder.name)
    path.unlink()
