"""What a stage's process and whoever starts it must agree on. Torch-free."""

from enum import StrEnum
from typing import Final, Literal, TypeAlias, get_args

StageKind: TypeAlias = Literal["traces", "sft", "distill", "rl"]  # in their order
STAGES: Final[tuple[StageKind, ...]] = get_args(StageKind)
GOES_ON_FROM: Final = {"distill": "sft", "rl": "distill"}  # the stage whose adapter a stage begins with
READ_TRACES: Final = ("sft", "distill", "rl")

# A stage's folder: what it is told by, and what it leaves there.
MANIFEST, EVENTS, RESULT, LOG = "manifest.json", "events.jsonl", "result.json", "stage.log"
TRACES, ADAPTER = "traces.jsonl", "adapter"
CHECKPOINTS, COMPLETE = "checkpoints", "complete.json"  # the second is the last file of a whole checkpoint


class FailureCode(StrEnum):
    """Why a stage ended, and whether it may be tried again: not where the same inputs would end it the same way."""

    retried: bool

    def __new__(cls, code: str, retried: bool) -> "FailureCode":
        member = str.__new__(cls, code)
        member._value_ = code
        member.retried = retried
        return member

    non_finite_loss = ("non_finite_loss", False)
    no_traces = ("no_traces", False)
    no_examples = ("no_examples", False)
    no_time = ("no_time", False)  # for a single step, or a single response
    prompt_too_long = ("prompt_too_long", False)
    base_not_found = ("base_not_found", False)
    adapter_not_found = ("adapter_not_found", False)
    input_not_found = ("input_not_found", False)
    no_single_token_codes = ("no_single_token_codes", False)
    unfit_settings = ("unfit_settings", False)
    out_of_memory = ("out_of_memory", True)  # others may have had the memory
    disk_full = ("disk_full", True)
    cancelled = ("cancelled", True)
    teacher_unavailable = ("teacher_unavailable", True)
    unexpected_error = ("unexpected_error", True)


def may_be_retried(code: str) -> bool:
    """A code that this version does not know is no reason to give up."""
    return {known.value: known.retried for known in FailureCode}.get(code, True)
