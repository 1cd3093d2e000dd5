"""What can go wrong, as the person at the command line hears it. Each error knows its exit code."""

from collections.abc import Sequence


class AppError(Exception):
    """`str(error)` is one sentence that says what to do; `details` holds further lines."""

    exit_code = 1
    code = "internal"

    def __init__(self, message: str, details: Sequence[str] = ()):
        super().__init__(message)
        self.details = tuple(details)


class InputError(AppError):
    """What was handed in cannot be used. Nothing has been written."""

    exit_code = 2
    code = "bad_input"


class OutputBusy(InputError):
    """Another process is at work in the same output directory."""

    code = "output_busy"


class NoSpace(AppError):
    exit_code = 2  # to be mended on this machine, like bad input
    code = "disk_full"


class StageFailed(AppError):
    code = "stage_failed"


class ServingError(AppError):
    """vLLM did not start, died, or refused an adapter; details: the end of its log."""

    exit_code = 2
    code = "serving_failed"


class AdapterRefused(ServingError):
    code = "adapter_refused"
