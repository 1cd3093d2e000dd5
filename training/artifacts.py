"""The files by which a stage tells the outside how it ended. A missing result.json means that the process died."""

import errno
import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from evaluation.atomic_files import write_whole
from training.engine.deadline import TimeUp
from training.protocol import CHECKPOINTS, COMPLETE, RESULT, FailureCode


class StageFailed(Exception):
    """A stage that cannot go on; the message says what to do about it."""

    def __init__(self, code: FailureCode, message: str, step: int | None = None):
        super().__init__(message)
        self.code, self.message, self.step = code, message, step


class StageCancelled(BaseException):
    """SIGTERM. Not an Exception, because libraries catch those and go on (transformers does around its imports)."""


class Finished(NamedTuple):
    """What a stage reports when it is done.

    tokens: read and written by the model, prompts included; None where a server that wrote did not count them.
    """

    step: int
    tokens: int | None
    metrics: dict[str, Any]


def write_json(path: Path, content: Any) -> None:
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1)
    write_whole(path, text.encode())


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    write_whole(
        path, "".join(json.dumps(r, ensure_ascii=False, allow_nan=False) + "\n" for r in rows).encode()
    )


def read_result(out: Path) -> dict[str, Any] | None:
    path = out / RESULT
    if not path.exists():
        return None
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def mark_complete(checkpoint: Path, manifest_sha256: str) -> None:
    """Called after everything else of the checkpoint is written; one without the mark is never resumed from."""
    write_json(checkpoint / COMPLETE, {"manifest_sha256": manifest_sha256})


def latest_checkpoint(out: Path, manifest_sha256: str) -> Path | None:
    """The newest whole checkpoint made for this very manifest."""
    found = []
    for mark in (out / CHECKPOINTS).glob(f"checkpoint-*/{COMPLETE}"):
        if json.loads(mark.read_text())["manifest_sha256"] == manifest_sha256:
            found.append(mark.parent)
    return max(found, key=lambda path: int(path.name.rsplit("-", 1)[1]), default=None)


def drop_checkpoints(out: Path) -> None:
    shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)


def failure_of(error: BaseException) -> StageFailed:
    """The named failure that an exception stands for."""
    if isinstance(error, StageFailed):
        return error
    if isinstance(error, TimeUp):
        return StageFailed(
            FailureCode.no_time,
            "max_seconds passed before the stage had made one step; raise the stage's max_seconds, or lower its "
            "batch_size",
        )
    text = f"{type(error).__name__}: {error}"
    if _is_told_to_stop(error):
        return StageFailed(
            FailureCode.cancelled, "the stage was told to stop; run it again to go on from its checkpoint"
        )
    if _is_disk_full(error):
        return StageFailed(
            FailureCode.disk_full,
            f"the disk of the output directory is full; free space and run again ({text})",
        )
    if _is_out_of_memory(error):
        return StageFailed(
            FailureCode.out_of_memory,
            f"out of memory; halve the stage's micro_batch_size (traces: batch_size) and run again ({text[:300]})",
        )
    return StageFailed(FailureCode.unexpected_error, f"{text[:2000]}; the traceback is in the stage's log")


def _is_told_to_stop(error: BaseException | None) -> bool:
    """Also where a library, tidying up on the way out, broke down over it."""
    while error is not None:
        if isinstance(error, StageCancelled | KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def _is_disk_full(error: BaseException) -> bool:
    # safetensors wraps the operating system's error in its own type and keeps only the words.
    return (
        isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    ) or "os error 28" in str(error)


def _is_out_of_memory(error: BaseException) -> bool:
    # torch raises OutOfMemoryError on CUDA and a plain RuntimeError from its CPU allocator.
    by_name = type(error).__name__ in ("OutOfMemoryError", "MemoryError")
    return by_name or "can't allocate memory" in str(error) or "CUDA out of memory" in str(error)
