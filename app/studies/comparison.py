"""What a study found, as tables for people and JSON for programs.

Every seed is another tenant, another drawing of the training and other questions, so an interval over seeds holds all
of that. With three of them Student's t is wide: an interval that says nothing is a result too. Of one seed the interval
is over its questions, and says nothing of another drawing.
"""

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from app.studies import sequence
from app.studies.matrix import Study
from app.studies.results import (
    ALL_MEASURES,
    BASE_ARM,
    EVERYDAY,
    KL_TO_BASE,
    KNOWN,
    RETENTION,
    SHOWN,
    SeedResult,
    course,
)
from app.studies.tables import Mean, cell, head, line, mean_of_known, of_seeds, with_interval
from evaluation.atomic_files import write_whole

TITLES = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "steerability": "steerability",
    "steerability_unseen": "steerability, unseen edits",
    "flip_accuracy": "flip accuracy",
    "invariance": "invariance",
    "majority_over_selection": "majority over-selection",
    "completion_tokens": "tokens an answer",
    "strict": "strict",
    "paraphrased": "paraphrased",
    "indirect": "indirect",
    RETENTION: "retention",
    EVERYDAY: "sentences",
    KL_TO_BASE: "KL to base",
}
_OVER_SEEDS = "{} seeds, mean and 95 % interval over seeds (Student's t)"
_OVER_QUESTIONS = "One seed, 95 % intervals over its questions, of differences question by question"
_FAMILIES = "Steerability by family of edits; the unseen ones are never shown in training:"
_ON_THE_WAY = (
    "While a stage learned: right answers on the validation split under the tenant's own schema, and under edits by "
    "family. Means over the seeds that came so far."
)


def of_arm(results: Iterable[SeedResult], arm: str, measure: str) -> Mean | None:
    return mean_of_known(_value(result, arm, measure) for result in results)


def against(results: Iterable[SeedResult], arm: str, other: str, measure: str) -> Mean | None:
    """Of the differences within a seed, whose tenant and questions are the same for both."""
    pairs = [(_value(r, arm, measure), _value(r, other, measure)) for r in results]
    return mean_of_known(one - two for one, two in pairs if one is not None and two is not None)


def markdown(study: Study, results: Sequence[SeedResult]) -> str:
    arms = list(results[0].arms)
    lines = [f"# {study.title}", "", _how(study, results), ""]
    taken = measured(results)
    lines += head(["arm", *(TITLES[m] for m in taken), "updates", "s", "tokens"])
    for arm in arms:
        cells = [of_seeds([result.arms[arm].measures.get(m) for result in results]) for m in taken]
        lines.append(line([arm, *cells, *_costs(results, arm)]))
    same = " on the same base" if study.bases else ""
    lines += ["", f"Differences to {study.against}{same}, within each seed:", ""]
    lines += head(["arm", *(TITLES[m] for m in taken)])
    for arm in arms:
        other = study.on_same_base(arm, study.against)
        if arm != other:
            cells = [_difference_cell(results, arm, other, measure) for measure in taken]
            lines.append(line([arm, *cells]))
    lines += [*_shown(study, results), *_chosen(results), *_families(results), *_on_the_way(results)]
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
    asked = ", ".join(f"{TITLES[name]} {first[name].n}" for name in ALL_MEASURES if name in first)
    interval = _OVER_SEEDS.format(len(results)) if len(results) > 1 else _OVER_QUESTIONS
    tenants = ", ".join(sequence.names(study))
    over = f" Measures: after the last step, mean over {tenants}." if len(study.tenants) > 1 else ""
    costs = "updates, s and tokens: of the whole chain, mean."
    return f"{interval}; n in each: {asked}; {costs}{over}"


def measured(results: Sequence[SeedResult]) -> list[str]:
    """Measures that some arm has."""
    there = {name for result in results for marks in result.arms.values() for name in marks.measures}
    return [name for name in ALL_MEASURES if name in there]


def _shown(study: Study, results: Sequence[SeedResult]) -> list[str]:
    """What the base answers about facts where it reads them: as much as there is to be taught."""
    lines = []
    for arm in results[0].arms:
        if arm != study.on_same_base(arm, BASE_ARM):
            continue
        found = {kind: of_arm(results, arm, kind + SHOWN) for kind in KNOWN}
        if all(found.values()):
            said = ", ".join(f"{TITLES[kind]} {cell(one)}" for kind, one in found.items())
            lines += ["", f"Shown the text, {arm} answers: {said}."]
    return lines


def _chosen(results: Sequence[SeedResult]) -> list[str]:
    """What sweeps found best, seed by seed."""
    found = {arm: [r.arms[arm].chosen for r in results] for arm in results[0].arms}
    said = [
        f"{arm}: {name} {', '.join(f'{one[name]:g}' for one in of)}"
        for arm, of in found.items()
        for name in of[0]
    ]
    return ["", f"Chosen on the validation split, seed by seed: {'; '.join(said)}."] if said else []


def _families(results: Sequence[SeedResult]) -> list[str]:
    names = list(dict.fromkeys(name for r in results for m in r.arms.values() for name in m.families))
    if not names:
        return []
    lines = ["", _FAMILIES, "", *head(["arm", *names])]
    for arm in results[0].arms:
        found = [[result.arms[arm].families.get(name) for result in results] for name in names]
        lines.append(line([arm, *map(of_seeds, found)]))
    return lines


def _on_the_way(results: Sequence[SeedResult]) -> list[str]:
    """A line for each validation, of stages that arms share once."""
    every = [one for r in results for marks in r.arms.values() for one in marks.validated]
    if not every:
        return []
    names = sorted({name for one in every for name in one.followed})
    lines = ["", _ON_THE_WAY, "", *head(["arm", "stage", "step", "seeds", "own schema", *names])]
    seen = set[tuple[str, int]]()
    for arm in results[0].arms:
        courses = [course(result.arms[arm].validated) for result in results]
        for moment in sorted({moment for one in courses for moment in one}):
            of = [one[moment] for one in courses if moment in one]
            if any((point.folder, point.step) in seen for point in of):
                continue
            seen |= {(point.folder, point.step) for point in of}
            own = cell(mean_of_known(point.accuracy for point in of))
            cells = [cell(mean_of_known(point.followed.get(name) for point in of)) for name in names]
            shown = [arm, of[0].stage, str(moment.step), str(len(of)), own, *cells]
            lines.append(line(shown))
    return lines


def _difference_cell(results: Sequence[SeedResult], arm: str, other: str, measure: str) -> str:
    paired = results[0].arms[arm].over.get(measure)
    if len(results) == 1 and paired is not None:
        return with_interval(paired)
    return cell(against(results, arm, other, measure))


def _value(result: SeedResult, arm: str, measure: str) -> float | None:
    found = result.arms[arm].measures.get(measure)
    return None if found is None else found.value


def _costs(results: Sequence[SeedResult], arm: str) -> list[str]:
    costs = [result.arms[arm].cost for result in results]
    counts = [cost.tokens for cost in costs]
    known = [count for count in counts if count is not None]
    tokens = f"{statistics.fmean(known):,.0f}" if len(known) == len(counts) else "–"
    updates = [cost.updates for cost in costs if cost.updates is not None]
    made = f"{statistics.fmean(updates):.0f}" if len(updates) == len(costs) else "–"
    return [made, f"{statistics.fmean(cost.wall_s for cost in costs):.0f}", tokens]
