"""What becomes of a tenant when others are learned after it: accuracy after each step, normalised, and forgetting.

A step is one tenant learned; step 0 is the base. Everything is taken within a seed and averaged afterwards.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from statistics import fmean
from typing import NamedTuple

from app.studies import subjects
from app.studies.matrix import Study
from app.studies.results import BASE_ARM, SeedResult, StudyPoint
from app.studies.tables import Mean, cell, head, line, mean_of_known

LEAST_GAIN = 0.05
"""In accuracy, by learning a tenant: a share of a smaller gain cannot be told from noise."""

Course = Sequence[Sequence[float]]
"""Accuracy after each step (rows, the base's first) on each tenant (columns)."""

KEPT = "no tenant"  # where retention is shown beside the tenants
_IN_A_ROW = (
    "Accuracy on each tenant while they are learned one after another, and retention "
    f"({KEPT}: schemas that are nobody's)."
)
_NORMALISED = (
    "Normalised: (accuracy - base) / (accuracy right after this tenant was learned - base). "
    f"Seeds in which that gain is below {LEAST_GAIN} are left out."
)
_AT_THE_END = (
    "At the end. Forgetting: accuracy right after a tenant was learned minus that at the end, "
    "mean over all tenants but the last."
)


class ArmCourse(NamedTuple):
    """An arm that learns. courses: of each seed; None where a value is missing. kept: retention after each step."""

    arm: str
    courses: list[Course | None]
    kept: list[Mean | None]

    def mean(self, number: Callable[[Course], float | None]) -> Mean | None:
        return mean_of_known(None if course is None else number(course) for course in self.courses)

    def accuracies(self, task: int) -> list[Mean | None]:
        """After each step, the base's first."""
        return [self.mean(partial(accuracy, step=step, task=task)) for step in range(len(self.kept))]

    def shares(self, task: int) -> list[Mean | None]:
        """Normalised, after each step but the base's."""
        return [self.mean(partial(normalised, step=step, task=task)) for step in range(1, len(self.kept))]


def accuracy(course: Course, step: int, task: int) -> float:
    return course[step][task]


def normalised(course: Course, step: int, task: int) -> float | None:
    """The share that is there at `step` of what learning the task gained; None where that was below LEAST_GAIN."""
    base = course[0][task]
    gain = course[task + 1][task] - base
    return (course[step][task] - base) / gain if gain >= LEAST_GAIN else None


def forgetting(course: Course) -> float:
    """Accuracy right after learning minus that at the end: mean over the tasks that others followed."""
    lost = [course[task + 1][task] - last for task, last in enumerate(course[-1])]
    return fmean(lost[:-1])


def names(study: Study) -> list[str]:
    return [subjects.title(source) for source in study.sources.values()]


def ways(study: Study, results: Sequence[SeedResult]) -> list[ArmCourse]:
    arms = [arm for arm in results[0].arms if arm != study.on_same_base(arm, BASE_ARM)]
    return [_way(arm, [_points(study, result, arm) for result in results]) for arm in arms]


def section(study: Study, results: Sequence[SeedResult]) -> list[str]:
    """Lines of Markdown."""
    tenants, found = names(study), ways(study, results)
    steps = [tenants[0], *(f"then {name}" for name in tenants[1:])]
    lines = ["", _IN_A_ROW, "", *head(["arm", "on", "base", *steps])]
    for way in found:
        for task, name in enumerate(tenants):
            lines.append(_row([way.arm, name], way.accuracies(task), results))
        lines.append(_row([way.arm, KEPT], way.kept, results))
    lines += ["", _NORMALISED, "", *head(["arm", "on", *steps])]
    for way in found:
        lines += [_row([way.arm, name], way.shares(task), results) for task, name in enumerate(tenants)]
    return [*lines, *_ends(study, results, found)]


def _ends(study: Study, results: Sequence[SeedResult], found: list[ArmCourse]) -> list[str]:
    lines = ["", _AT_THE_END, ""]
    lines += head(["arm", "average accuracy", "forgetting", f"minus that of {study.against}"])
    by_arm = {way.arm: way for way in found}
    for way in found:
        other = by_arm[study.on_same_base(way.arm, study.against)]
        pairs = zip(way.courses, other.courses, strict=True)
        difference = mean_of_known(forgetting(a) - forgetting(b) if a and b else None for a, b in pairs)
        ends = [way.mean(lambda course: fmean(course[-1])), way.mean(forgetting), difference]
        lines.append(_row([way.arm], ends, results))
    return lines


def _way(arm: str, of_seeds: list[list[StudyPoint]]) -> ArmCourse:
    kept = zip(*([point.retention.value for point in points] for points in of_seeds), strict=True)
    return ArmCourse(
        arm, [_course(points) for points in of_seeds], [mean_of_known(column) for column in kept]
    )


def _points(study: Study, result: SeedResult, arm: str) -> list[StudyPoint]:
    return [*result.arms[study.on_same_base(arm, BASE_ARM)].points, *result.arms[arm].points]


def _course(points: list[StudyPoint]) -> Course | None:
    rows = [[task["accuracy"].value for task in point.tasks if "accuracy" in task] for point in points]
    known = [[value for value in row if value is not None] for row in rows]
    whole = all(len(row) == len(point.tasks) for row, point in zip(known, points, strict=True))
    return known if whole else None


def _row(first: list[str], cells: Iterable[Mean | None], results: Sequence[SeedResult]) -> str:
    return line([*first, *(_counted(found, len(results)) for found in cells)])


def _counted(found: Mean | None, seeds: int) -> str:
    counted = f" ({found.seeds} of {seeds} seeds)" if found and found.seeds < seeds else ""
    return cell(found) + counted
