"""What a stage that learns says of itself on the way, as it stands among its events. Torch-free."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

ACCURACY: Final = "validation_accuracy"
PERTURBED: Final = "validation_perturbed"
_FAMILY: Final = "validation_of_"


class Scores(NamedTuple):
    """Shares of right answers: under the tenant's schema, under an edit of it, and of these by the edit's family."""

    accuracy: float
    perturbed: float
    followed: dict[str, float]


def as_metrics(scores: Scores) -> dict[str, float]:
    by_family = {f"{_FAMILY}{name}": share for name, share in scores.followed.items()}
    return {ACCURACY: scores.accuracy, PERTURBED: scores.perturbed} | by_family


def scores_in(event: Mapping[str, Any]) -> Scores | None:
    """None where the event is of something else."""
    if ACCURACY not in event:
        return None
    by_family = {
        name.removeprefix(_FAMILY): float(value) for name, value in event.items() if name.startswith(_FAMILY)
    }
    return Scores(float(event[ACCURACY]), float(event[PERTURBED]), by_family)
