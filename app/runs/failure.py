"""What a run says about a failure: what went wrong and what to do, never where things lie on our machines."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.errors import AppError, StageProcessFailed
from app.runs.supervisor import Result
from training.protocol import Fault, fault_of_code

# An absolute path that begins a word or a quotation; what follows a letter (`train/test`) or a colon (a URL) is none.
_PATH = re.compile(r"(?<![\w/:.~-])~?/(?:[^\s/'\"()<>,;:]+/)*([^\s/'\"()<>,;:]+)/?")


class RunStageFailed(AppError):
    """As it is stored with the job and the run."""

    def __init__(self, code: str, message: str, details: Sequence[str] = (), *, fault: Fault):
        super().__init__(message, details)
        self.code, self._fault = code, fault

    @property
    def fault(self) -> Fault:
        return self._fault


def told(error: AppError, result: Result | None, known: Sequence[Path]) -> RunStageFailed:
    """result: what the stage's process left, if anything. known: places that may be named in the error's words."""
    if isinstance(error, StageProcessFailed) and result is not None and result.code is not None:
        code, message = result.code, result.message or result.code
        details: tuple[str, ...] = ()
        fault = fault_of_code(result.code)
    else:
        problems = [f"{p.where}: {p.message}" for p in error.problems]
        code, message = error.code, str(error)
        details = (*error.details, *problems)
        fault = error.fault
    lines = [without_paths(line, *known) for line in details]
    return RunStageFailed(code, without_paths(message, *known), lines, fault=fault)


def without_paths(text: str, *known: Path) -> str:
    """A file keeps its name and loses its folder."""
    for place in sorted({str(path) for path in known}, key=len, reverse=True):  # they may hold spaces
        text = text.replace(f"{place}/", "/")
    return _PATH.sub(r"\1", text)


def of_job(error: dict[str, Any], stage: str) -> dict[str, Any]:
    """The run's error from that of the job that ended it."""
    return {
        "code": error.get("code", "internal"),
        "message": without_paths(str(error.get("message", ""))),
        "stage": stage,
        "details": [without_paths(str(line)) for line in error.get("details", ())],
    }


def lost_rows(stage: str) -> dict[str, Any]:
    """Of a run that ended because it was no longer to learn from what it had frozen."""
    message = "a conversation that it was to learn from was deleted; begin another run"
    return {"code": "conversation_deleted", "message": message, "stage": stage, "details": []}
