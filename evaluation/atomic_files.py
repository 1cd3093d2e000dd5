"""Files and folders that are there whole or not at all, also after a power cut."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole(path: Path, *, mode: int = 0o666, temporary: Path | None = None) -> Iterator[BinaryIO]:
    """What is written here takes the place of what was there once the block has ended without an error.

    temporary: where it grows until then, in the same folder; of a name of its own where several write at a time.
    """
    part = temporary or path.with_name(f".{path.name}.tmp")
    part.unlink(missing_ok=True)
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as sink:  # noqa: PTH123
            yield sink
            sink.flush()
            os.fsync(sink.fileno())
        part.replace(path)
        sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    with whole(path) as sink:
        sink.write(content)


def place_folder(made: Path, final: Path) -> None:
    """A folder of files, made in the same folder as `final`, takes that name once all of it is on the disk.

    Raises: OSError where something is there.
    """
    for path in made.rglob("*"):
        if path.is_dir():
            sync_folder(path)
        else:
            with path.open("rb") as source:
                os.fsync(source.fileno())
    sync_folder(made)
    made.rename(final)
    sync_folder(final.parent)


def sync_folder(folder: Path) -> None:
    """A rename is safe from a power cut only when its folder is on the disk too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
