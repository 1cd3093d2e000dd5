"""What a study measures, as it is kept."""

from statistics import fmean

from pydantic import BaseModel

from evaluation.metrics.measures import Measure

BASE_ARM = "base"
MEASURES = (
    "accuracy",
    "macro_f1",
    "steerability",
    "steerability_unseen",
    "flip_accuracy",
    "invariance",
    "majority_over_selection",
    "completion_tokens",
)
RETENTION = "retention"  # share of right answers under schemas of other tenants


class Cost(BaseModel):
    """Of the whole chain of an arm, what it shares with others included."""

    wall_s: float
    tokens: int | None


class StudyPoint(BaseModel):
    """A model on an arm's way. tasks: its measures on each of the study's tenants, in their order."""

    tasks: list[dict[str, Measure]]
    retention: Measure


class ArmResult(BaseModel):
    """measures: those of MEASURES, and `retention`, at the arm's end; of several tenants the mean over them.

    curve: share of right rollouts at each step, of RL. pass_at_k: for k = 1, 2, …, on the tenant's own conversations.
    points: after each tenant, where there are several; of the base its only one.
    """

    measures: dict[str, Measure]
    cost: Cost
    curve: list[float] = []
    pass_at_k: list[float] = []
    points: list[StudyPoint] = []


class SeedResult(BaseModel):
    key: str
    seed: int
    arms: dict[str, ArmResult]


def at_end(points: list[StudyPoint]) -> dict[str, Measure]:
    """The last point's measures as those of the arm; one that a tenant lacks has no mean."""
    tasks = points[-1].tasks
    shared = [name for name in MEASURES if all(name in task for task in tasks)]
    return {name: _mean([task[name] for task in tasks]) for name in shared} | {
        RETENTION: points[-1].retention
    }


def _mean(of_tenants: list[Measure]) -> Measure:
    if len(of_tenants) == 1:
        return of_tenants[0]
    values = [one.value for one in of_tenants if one.value is not None]
    whole = len(values) == len(of_tenants)
    return Measure(value=fmean(values) if whole else None, n=sum(one.n for one in of_tenants), ci95=None)
