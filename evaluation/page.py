"""A report as one HTML page that needs nothing else: verdict and reasons first, then why.

What it looks like is in page.html.jinja, where everything that comes from a tenant is escaped.
"""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from evaluation import plots
from evaluation.measures import Measure
from evaluation.plots import Series
from evaluation.report import Report, Verdict

SAID = {
    Verdict.passed: "Passed: this model follows the definitions and may answer users.",
    Verdict.failed: "Failed: this model must not answer users.",
    Verdict.incomplete: "Incomplete: what was measured does not decide.",
}
EDITS = {
    "swap": "categories exchange their definitions",
    "cycle": "definitions move round three categories or more",
    "drop": "categories are removed",
    "boundary": "what a category includes moves to another, or is excluded",
    "novel": "a category with a new criterion comes before all others",
    "split": "one category becomes two",
    "merge": "two categories become one",
    "reword": "the same definitions in other words",
    "rename": "names change, definitions stay",
    "shuffle": "order and codes change, definitions stay",
}


class Row(NamedTuple):
    measure: str
    label: str
    meaning: str
    digits: int = 3


class Column(NamedTuple):
    """A stage, or a baseline, of which not everything is measured."""

    title: str
    detail: str
    measures: Mapping[str, Measure | None]


ROWS = (
    Row("accuracy", "accuracy", "right answers, no edit, natural mix"),
    Row("macro_f1", "macro-F1", "every category counts alike"),
    Row("majority_over_selection", "over-selection", "largest category: share answered minus real share"),
    Row("steerability", "steerability", "do answers shift as the edits ask? 1 fully, 0 no relation"),
    Row("steerability_seen", "… edits seen in training", ""),
    Row("steerability_unseen", "… edits never seen", ""),
    Row("flip_accuracy", "flip accuracy", "answers that must move and moved to the right place"),
    Row("invariance", "invariance", "answers that must stay and stayed"),
    Row("override_rate", "override rate", "flip accuracy of what was right before the edit"),
    Row("unparsable", "unparsable", "no answer could be read"),
    Row("forced_read", "forced reads", "the answer had to be asked for a second time"),
    Row("errored", "errored", "requests that failed on our side"),
    Row("label_mass", "label mass", "probability on the codes where one is due"),
    Row("evidence_rate", "verified quote", "quotes words of the conversation"),
    Row("decided_by_rate", "names a condition", "quotes a condition of the category answered"),
    Row("completion_tokens", "tokens per answer", "reasoning included", digits=0),
)


def render(report: Report) -> str:
    last, gate = report.stages[-1], report.gate
    stages = [
        Column(s.stage, s.model, {r.measure: getattr(s, r.measure) for r in ROWS}) for s in report.stages
    ]
    baselines = _baselines(report)
    return _TEMPLATE.render(
        report=report,
        last=last,
        said=SAID[gate.verdict] if gate else "No policy has judged this report.",
        passed=[c.reason for c in gate.checks if c.reason not in gate.reasons] if gate else [],
        by_stage=_by_stage(stages, baselines),
        by_family=_by_family(report),
        columns=[*stages, *baselines],
        first_baseline=len(stages),
        rows=ROWS,
        edits=EDITS,
        matrix=plots.confusion(last.confusion, [_name(a) for a in last.confusion.answers]),
    )


def _baselines(report: Report) -> list[Column]:
    found: dict[str, dict[str, Measure]] = defaultdict(dict)
    for key, measure in report.baselines.items():
        baseline, _, name = key.partition("_")
        found[baseline][name] = measure
    return [Column(baseline, "baseline", measures) for baseline, measures in found.items()]


def _by_stage(stages: list[Column], baselines: list[Column]) -> str:
    columns = [*stages, *baselines]
    series = [
        Series(label, css, [c.measures.get(name) for c in columns])
        for name, label, css in (("accuracy", "accuracy", "one"), ("steerability", "steerability", "two"))
    ]
    return plots.points([c.title for c in columns], series, "accuracy and steerability", joined=len(stages))


def _by_family(report: Report) -> str:
    families = report.stages[-1].per_family
    series = [
        Series(name.replace("_", " "), css, [getattr(family, name) for family in families.values()])
        for name, css in (("flip_accuracy", "one"), ("steerability", "two"), ("invariance", "three"))
    ]
    labels = [name if family.seen else f"{name}*" for name, family in families.items()]
    return plots.points(labels, series, "the last stage by kind of edit")


def _name(answer: str | None) -> str:
    return "none of these" if answer is None else answer


def _template_environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["name"] = _name
    return made


_TEMPLATE = _template_environment().get_template("page.html.jinja")
