"""What a study found, as tables for people and JSON for programs. Intervals are over the seeds.

Every seed is another tenant, another drawing of the training and other questions, so the spread over seeds holds all
of that. With three of them Student's t is wide: an interval that says nothing is a result too.
"""

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from scipy.stats import t as student

from app.serving.model_folder import write_whole
from app.studies.matrix import Study
from app.studies.study import MEASURES, RETENTION, SeedResult

SHOWN = (*MEASURES, RETENTION)
TITLES = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "steerability": "steerability",
    "flip_accuracy": "flip accuracy",
    "invariance": "invariance",
    "majority_over_selection": "majority over-selection",
    RETENTION: "retention",
}


class Mean(NamedTuple):
    """reach: half of the 95 % interval; None of a single seed."""

    value: float
    reach: float | None
    seeds: int

    def __str__(self) -> str:
        return f"{self.value:.3f}" if self.reach is None else f"{self.value:.3f} ± {self.reach:.3f}"


def mean(values: Sequence[float]) -> Mean:
    """By Student's t over the seeds."""
    if len(values) < 2:
        return Mean(values[0], None, 1)
    spread = statistics.stdev(values) / math.sqrt(len(values))
    return Mean(statistics.fmean(values), float(student.ppf(0.975, len(values) - 1)) * spread, len(values))


def of_arm(results: Iterable[SeedResult], arm: str, measure: str) -> Mean | None:
    values = [_value(result, arm, measure) for result in results]
    known = [value for value in values if value is not None]
    return mean(known) if known else None


def against(results: Iterable[SeedResult], arm: str, other: str, measure: str) -> Mean | None:
    """Of the differences within a seed, whose tenant and questions are the same for both."""
    pairs = [(_value(r, arm, measure), _value(r, other, measure)) for r in results]
    known = [one - two for one, two in pairs if one is not None and two is not None]
    return mean(known) if known else None


def markdown(study: Study, results: Sequence[SeedResult]) -> str:
    arms = list(results[0].arms)
    lines = [f"# {study.title}", "", _how(study, results), ""]
    lines += _table("arm", [TITLES[m] for m in SHOWN] + ["s", "tokens"])
    for arm in arms:
        cells = [_cell(of_arm(results, arm, measure)) for measure in SHOWN]
        lines.append(_line([arm, *cells, *_costs(results, arm)]))
    lines += ["", f"Differences to {study.against}, within each seed:", ""]
    lines += _table("arm", [TITLES[m] for m in SHOWN])
    for arm in arms:
        if arm != study.against:
            cells = [_cell(against(results, arm, study.against, measure)) for measure in SHOWN]
            lines.append(_line([arm, *cells]))
    return "\n".join(lines) + "\n"


def write(study: Study, results: Sequence[SeedResult], out: Path) -> Path:
    """table.md and results.json. Returns the table's path."""
    content = [result.model_dump(mode="json") for result in results]
    write_whole(out / "results.json", json.dumps(content, indent=1).encode())
    write_whole(out / "table.md", markdown(study, results).encode())
    return out / "table.md"


def _how(study: Study, results: Sequence[SeedResult]) -> str:
    first = next(iter(results[0].arms.values())).measures
    asked = ", ".join(f"{TITLES[name]} {first[name].n}" for name in SHOWN if name in first)
    interval = "mean and 95 % interval over seeds (Student's t)" if len(results) > 1 else "one seed"
    return f"{len(results)} seeds, {interval}; n in each: {asked}. s and tokens: of the whole chain, mean."


def _value(result: SeedResult, arm: str, measure: str) -> float | None:
    found = result.arms[arm].measures.get(measure)
    return None if found is None else found.value


def _costs(results: Sequence[SeedResult], arm: str) -> list[str]:
    costs = [result.arms[arm].cost for result in results]
    counts = [cost.tokens for cost in costs]
    known = [count for count in counts if count is not None]
    tokens = f"{statistics.fmean(known):,.0f}" if len(known) == len(counts) else "–"
    return [f"{statistics.fmean(cost.wall_s for cost in costs):.0f}", tokens]


def _table(first: str, columns: list[str]) -> list[str]:
    return [_line([first, *columns]), _line(["---"] * (len(columns) + 1))]


def _cell(found: Mean | None) -> str:
    return "–" if found is None else str(found)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
