"""What a stage's process and whoever starts it must agree on. Torch-free."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_args

StageKind: TypeAlias = Literal["traces", "sft", "distill", "rl"]  # in their order
STAGES: Final[tuple[StageKind, ...]] = get_args(StageKind)
GOES_ON_FROM: Final = {"distill": "sft", "rl": "distill"}  # the stage whose adapter a stage begins with
READ_TRACES: Final = ("sft", "distill", "rl")

# A stage's folder: what it is told by, and what it leaves there.
MANIFEST, EVENTS, RESULT, LOG = "manifest.json", "events.jsonl", "result.json", "stage.log"
TRACES, ADAPTER = "traces.jsonl", "adapter"
COSTS: Final = (
    "usd."  # begins the name of a metric of traces: what the teacher whose name follows has cost so far
)
CHECKPOINTS, COMPLETE = "checkpoints", "complete.json"  # the second is the last file of a whole checkpoint

# Among the events of a stage that is validated on the way.
VALIDATION_ACCURACY, VALIDATION_PERTURBED = "validation_accuracy", "validation_perturbed"
_FAMILY: Final = "validation_of_"

# In the environment of each process that computes: its threads sleep while they wait for each other. By default they
# spin, and where somebody else has a core they spin for as long as that one computes.
# [measured, two AVX2 cores with three other processes on them: 300 products of 16 x 576 by 576 x 1536 in 10.6 s
# spinning and 0.5 s asleep; with nobody else 0.12 s and 0.14 s]
SHARED_CORES: Final[Mapping[str, str]] = {"OMP_WAIT_POLICY": "PASSIVE"}


class Fault(StrEnum):
    """Whose matter an error is. away, full: of nobody who asked; it passes, and the same goes on then."""

    ours = "ours"
    theirs = "theirs"  # the same inputs would end it the same way
    away = "away"
    full = "full"


class FailureCode(StrEnum):
    """Why a stage ended, and whose matter that is."""

    fault: Fault

    def __new__(cls, code: str, fault: Fault) -> "FailureCode":
        member = str.__new__(cls, code)
        member._value_ = code
        member.fault = fault
        return member

    non_finite_loss = ("non_finite_loss", Fault.theirs)
    no_traces = ("no_traces", Fault.theirs)
    no_examples = ("no_examples", Fault.theirs)
    no_time = ("no_time", Fault.theirs)  # for a single step, or a single response
    prompt_too_long = ("prompt_too_long", Fault.theirs)
    base_not_found = ("base_not_found", Fault.theirs)
    adapter_not_found = ("adapter_not_found", Fault.theirs)
    input_not_found = ("input_not_found", Fault.theirs)
    no_single_token_codes = ("no_single_token_codes", Fault.theirs)
    unfit_settings = ("unfit_settings", Fault.theirs)
    teacher_refused = ("teacher_refused", Fault.theirs)  # key, model or address: somebody has to mend it
    teacher_unavailable = ("teacher_unavailable", Fault.away)
    disk_full = ("disk_full", Fault.full)
    out_of_memory = ("out_of_memory", Fault.ours)  # others may have had the memory
    cancelled = ("cancelled", Fault.ours)
    unexpected_error = ("unexpected_error", Fault.ours)


def fault_of_code(code: str) -> Fault:
    """A code that this version does not know is no reason to give up."""
    return {known.value: known.fault for known in FailureCode}.get(code, Fault.ours)


class Validated(NamedTuple):
    """Shares of right answers: under the tenant's schema, under an edit of it, and of these by the edit's family."""

    accuracy: float
    perturbed: float
    followed: dict[str, float]

    def as_metrics(self) -> dict[str, float]:
        by_family = {f"{_FAMILY}{name}": share for name, share in self.followed.items()}
        return {VALIDATION_ACCURACY: self.accuracy, VALIDATION_PERTURBED: self.perturbed} | by_family


def validated_in(event: Mapping[str, Any]) -> Validated | None:
    """None where the event is of something else."""
    if VALIDATION_ACCURACY not in event:
        return None
    by_family = {
        name.removeprefix(_FAMILY): float(value) for name, value in event.items() if name.startswith(_FAMILY)
    }
    return Validated(float(event[VALIDATION_ACCURACY]), float(event[VALIDATION_PERTURBED]), by_family)
