"""What a study measures, as it is kept."""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from pydantic import BaseModel

from app.studies.knowledge import FactQuestionKind
from evaluation.metrics.measures import Measure

BASE_ARM = "base"
OVER_SELECTION = "majority_over_selection"
TOKENS = "completion_tokens"
MEASURES = (
    "accuracy",
    "macro_f1",
    "steerability",
    "steerability_unseen",
    "flip_accuracy",
    "invariance",
    OVER_SELECTION,
    TOKENS,
)
RETENTION = "retention"  # share of right answers under schemas of other tenants
EVERYDAY = "everyday"  # of plain sentences that are ended rightly
KL_TO_BASE = "kl_to_base"  # nats a token, on everyday prompts
UNSEEN = "(unseen)"  # behind the name of a family that training never shows
KNOWN = tuple(
    kind.value for kind in FactQuestionKind
)  # of each: share of questions that are answered rightly
SHOWN = ", shown"  # behind the name of one of KNOWN: by the base that reads the text
ALL_MEASURES = (*MEASURES, *KNOWN, RETENTION, EVERYDAY, KL_TO_BASE)


class Cost(BaseModel):
    """Of the whole chain of an arm, what it shares with others included. updates: optimizer steps."""

    wall_s: float
    tokens: int | None
    updates: int | None = None


class StudyPoint(BaseModel):
    """A model on an arm's way. tasks: its measures on each of the study's tenants, in their order. families: of each
    its steerability by family. others: those of KNOWN, EVERYDAY and KL_TO_BASE that were asked for."""

    tasks: list[dict[str, Measure]]
    retention: Measure
    families: list[dict[str, Measure]] = []
    others: dict[str, Measure] = {}


class ValidationPoint(BaseModel):
    """A stage that learns, measured on the way. folder: its own, which arms share. followed: share of right answers
    under edits, by family."""

    folder: str
    stage: str
    step: int
    accuracy: float
    perturbed: float
    followed: dict[str, float]


class ArmResult(BaseModel):
    """measures: those of ALL_MEASURES that were taken, at the arm's end; of several tenants the mean over them.
    families: steerability by family, the same. over: differences to the arm that it is compared with, question by
    question. validated: of its stages, in their order. chosen: the best of what was swept, which is the arm.

    curve: share of right rollouts at each step, of RL. pass_at_k: for k = 1, 2, …, on the tenant's own conversations.
    points: after each tenant, where there are several; of the base its only one.
    """

    measures: dict[str, Measure]
    cost: Cost
    curve: list[float] = []
    pass_at_k: list[float] = []
    points: list[StudyPoint] = []
    families: dict[str, Measure] = {}
    over: dict[str, Measure] = {}
    validated: list[ValidationPoint] = []
    chosen: dict[str, float] = {}


class Moment(NamedTuple):
    """When a stage was validated, the same in every seed. stage: its place among the arm's stages that were."""

    stage: int
    step: int


def course(validated: Sequence[ValidationPoint]) -> dict[Moment, ValidationPoint]:
    """Of one arm in one seed. Folders are named after the seed too, and kinds of stages may come twice."""
    folders = list(dict.fromkeys(point.folder for point in validated))
    return {Moment(folders.index(point.folder), point.step): point for point in validated}


class SeedResult(BaseModel):
    key: str
    seed: int
    arms: dict[str, ArmResult]


def at_end(points: list[StudyPoint]) -> dict[str, Measure]:
    """The last point's measures as those of the arm; one that a tenant lacks has no mean."""
    last = points[-1]
    return over_tenants(last.tasks, MEASURES) | {RETENTION: last.retention} | last.others


def families_at_end(points: list[StudyPoint]) -> dict[str, Measure]:
    """Of the families that every tenant has."""
    families = points[-1].families
    return over_tenants(families, list(families[0])) if families else {}


def over_tenants(of_tenants: list[dict[str, Measure]], names: Sequence[str]) -> dict[str, Measure]:
    """Of the measures that every tenant has the mean."""
    shared = [name for name in names if of_tenants and all(name in one for one in of_tenants)]
    return {name: _mean([one[name] for one in of_tenants]) for name in shared}


def _mean(of_tenants: list[Measure]) -> Measure:
    if len(of_tenants) == 1:
        return of_tenants[0]
    values = [one.value for one in of_tenants if one.value is not None]
    whole = len(values) == len(of_tenants)
    n = sum(one.n for one in of_tenants)
    return Measure(value=fmean(values), n=n, ci95=_interval(of_tenants)) if whole else _nothing(n)


def _nothing(n: int) -> Measure:
    return Measure(value=None, n=n, ci95=None)


def _interval(of_tenants: list[Measure]) -> tuple[float, float] | None:
    """Of the mean of independent measures, from the interval of each: distances to the ends add up in squares (Zou and
    Donner 2008, MOVER)."""
    known = [(one.value, one.ci95) for one in of_tenants if one.value is not None and one.ci95 is not None]
    if len(known) < len(of_tenants):
        return None
    centre = fmean(value for value, _ in known)
    below, above = (
        math.sqrt(sum((value - ends[side]) ** 2 for value, ends in known)) / len(known) for side in (0, 1)
    )
    return centre - below, centre + above
