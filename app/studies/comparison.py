"""What a study found, as tables for people and JSON for programs. Intervals are over the seeds.

Every seed is another tenant, another drawing of the training and other questions, so the spread over seeds holds all
of that. With three of them Student's t is wide: an interval that says nothing is a result too.
"""

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from app.studies import sequence
from app.studies.matrix import Study
from app.studies.results import MEASURES, RETENTION, SeedResult
from app.studies.tables import Mean, cell, head, line, mean_of_known
from evaluation.atomic_files import write_whole

SHOWN = (*MEASURES, RETENTION)
TITLES = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "steerability": "steerability",
    "steerability_unseen": "steerability, unseen edits",
    "flip_accuracy": "flip accuracy",
    "invariance": "invariance",
    "majority_over_selection": "majority over-selection",
    "completion_tokens": "tokens an answer",
    RETENTION: "retention",
}


def of_arm(results: Iterable[SeedResult], arm: str, measure: str) -> Mean | None:
    return mean_of_known(_value(result, arm, measure) for result in results)


def against(results: Iterable[SeedResult], arm: str, other: str, measure: str) -> Mean | None:
    """Of the differences within a seed, whose tenant and questions are the same for both."""
    pairs = [(_value(r, arm, measure), _value(r, other, measure)) for r in results]
    return mean_of_known(one - two for one, two in pairs if one is not None and two is not None)


def markdown(study: Study, results: Sequence[SeedResult]) -> str:
    arms = list(results[0].arms)
    lines = [f"# {study.title}", "", _how(study, results), ""]
    lines += head(["arm", *(TITLES[m] for m in SHOWN), "s", "tokens"])
    for arm in arms:
        cells = [cell(of_arm(results, arm, measure)) for measure in SHOWN]
        lines.append(line([arm, *cells, *_costs(results, arm)]))
    same = " on the same base" if study.bases else ""
    lines += ["", f"Differences to {study.against}{same}, within each seed:", ""]
    lines += head(["arm", *(TITLES[m] for m in SHOWN)])
    for arm in arms:
        other = study.on_same_base(arm, study.against)
        if arm != other:
            cells = [cell(against(results, arm, other, measure)) for measure in SHOWN]
            lines.append(line([arm, *cells]))
    if len(study.tenants) > 1:
        lines += sequence.section(study, results)
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
    tenants = ", ".join(sequence.names(study))
    over = f" Measures: after the last step, mean over {tenants}." if len(study.tenants) > 1 else ""
    return (
        f"{len(results)} seeds, {interval}; n in each: {asked}. s and tokens: of the whole chain, mean.{over}"
    )


def _value(result: SeedResult, arm: str, measure: str) -> float | None:
    found = result.arms[arm].measures.get(measure)
    return None if found is None else found.value


def _costs(results: Sequence[SeedResult], arm: str) -> list[str]:
    costs = [result.arms[arm].cost for result in results]
    counts = [cost.tokens for cost in costs]
    known = [count for count in counts if count is not None]
    tokens = f"{statistics.fmean(known):,.0f}" if len(known) == len(counts) else "–"
    return [f"{statistics.fmean(cost.wall_s for cost in costs):.0f}", tokens]
