"""What each stage can still do of what the base could."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from evaluation.atomic_files import write_whole
from evaluation.metrics import statistics
from evaluation.metrics.measures import Measure, mean, rate
from evaluation.metrics.statistics import Floats, clustered_interval
from evaluation.retention.harness import Result, RetentionNotMeasured, Scores


class StageResults(NamedTuple):
    stage: str
    model: str
    results: Mapping[str, Result]  # by task


class TaskReport(BaseModel):
    """retained: the score minus the base's on the same items; None where there is no base to compare with."""

    model_config = ConfigDict(frozen=True)

    score: Measure
    retained: Measure | None
    not_measured: str | None  # why `score` has no value


class StageRetention(BaseModel):
    """retained: the mean of the tasks' differences to the base, each task with equal weight; n counts items."""

    model_config = ConfigDict(frozen=True)

    stage: str
    model: str
    tasks: dict[str, TaskReport]
    retained: Measure | None


class RetentionReport(BaseModel):
    model_config = ConfigDict(frozen=True)

    report_version: Literal[1] = 1
    harness: str  # its version: scores of two versions are not comparable
    limit: int | None
    stages: list[StageRetention]


def assemble(runs: Sequence[StageResults], *, harness: str, limit: int | None = None) -> RetentionReport:
    """runs: in the order of the stages; one called `base` is what the others are compared with."""
    base = next((run.results for run in runs if run.stage == "base"), None)
    stages = [_stage(run, None if run.stage == "base" else base) for run in runs]
    return RetentionReport(harness=harness, limit=limit, stages=stages)


def write(report: RetentionReport, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, report.model_dump_json(indent=1).encode() + b"\n")


def _stage(run: StageResults, base: Mapping[str, Result] | None) -> StageRetention:
    differences = (
        {} if base is None else {name: _differences(r, base.get(name)) for name, r in run.results.items()}
    )
    tasks = {
        name: TaskReport(
            score=_score(result),
            retained=_paired(differences[name]) if name in differences else None,
            not_measured=result.reason if isinstance(result, RetentionNotMeasured) else None,
        )
        for name, result in run.results.items()
    }
    retained = None if base is None else _over_tasks(differences)
    return StageRetention(stage=run.stage, model=run.model, tasks=tasks, retained=retained)


def _score(result: Result) -> Measure:
    """Every item counts once; most scores are right or wrong, and some lie between."""
    values = [] if isinstance(result, RetentionNotMeasured) else list(result.values())
    if all(value in (0, 1) for value in values):
        return rate(round(sum(values)), len(values))
    return mean(values)


def _differences(result: Result, base: Result | None) -> Scores:
    """Of the items that both were asked."""
    if base is None or isinstance(base, RetentionNotMeasured) or isinstance(result, RetentionNotMeasured):
        return {}
    return {item: value - base[item] for item, value in result.items() if item in base}


def _paired(differences: Scores) -> Measure:
    return mean(list(differences.values()))


def _over_tasks(differences: Mapping[str, Scores]) -> Measure:
    measured = [scores for scores in differences.values() if scores]
    n = sum(map(len, measured))
    if not measured:
        return Measure(value=None, n=0, ci95=None)
    terms = np.zeros(
        (n, 2 * len(measured))
    )  # of each task the sum of its differences, and how many there are
    row = 0
    for task, scores in enumerate(measured):
        terms[row : row + len(scores), 2 * task] = list(scores.values())
        terms[row : row + len(scores), 2 * task + 1] = 1
        row += len(scores)
    value = fmean(fmean(scores.values()) for scores in measured)
    return Measure(
        value=value, n=n, ci95=clustered_interval([str(i) for i in range(n)], terms, _mean_of_ratios)
    )


def _mean_of_ratios(sums_RM: Floats) -> Floats:
    """nan where a resample leaves out a whole task."""
    pairs = np.split(sums_RM, sums_RM.shape[1] // 2, axis=1)
    return np.asarray(np.mean([statistics.ratio(pair_R2) for pair_R2 in pairs], axis=0))
