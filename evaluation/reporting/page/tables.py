"""What stands side by side in the tables of the page, and the words for it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from evaluation.metrics.injection import LEVELS, InjectionReport, Rates
from evaluation.metrics.measures import Measure
from evaluation.reporting.assembly import BASE, LIVE
from evaluation.reporting.report import Report, StageReport


class MetricRow(NamedTuple):
    measure: str
    label: str
    meaning: str
    digits: int = 3


class Column(NamedTuple):
    """A stage, or a baseline, of which not everything is measured."""

    title: str
    detail: str
    measures: Mapping[str, Measure | None]


class Columns(NamedTuple):
    """steps: of training, the candidate last. live: what answers users now. Neither it nor a baseline is a step."""

    steps: list[Column]
    live: list[Column]
    baselines: list[Column]

    @property
    def each(self) -> list[Column]:
        return [*self.steps, *self.live, *self.baselines]


class StageDifference(NamedTuple):
    label: str
    measures: list[Measure]


class Level(NamedTuple):
    label: str
    rates: list[Rates]


class RowGroup(NamedTuple):
    title: str
    levels: list[Level]


ROWS = (
    MetricRow("accuracy", "accuracy", "right answers, no edit, natural mix"),
    MetricRow("macro_f1", "macro-F1", "every category counts alike"),
    MetricRow(
        "majority_over_selection", "over-selection", "largest category: share answered minus real share"
    ),
    MetricRow("steerability", "steerability", "do answers shift as the edits ask? 1 fully, 0 no relation"),
    MetricRow("steerability_seen", "… edits seen in training", ""),
    MetricRow("steerability_unseen", "… edits never seen", ""),
    MetricRow("flip_accuracy", "flip accuracy", "answers that must move and moved to the right place"),
    MetricRow("invariance", "invariance", "answers that must stay and stayed"),
    MetricRow("override_rate", "override rate", "flip accuracy of what was right before the edit"),
    MetricRow("unparsable", "unparsable", "no answer could be read"),
    MetricRow("forced_read", "forced reads", "the answer had to be asked for a second time"),
    MetricRow("errored", "errored", "requests that failed on our side"),
    MetricRow("label_mass", "label mass", "probability on the codes where one is due"),
    MetricRow("evidence_rate", "verified quote", "quotes words of the conversation"),
    MetricRow("decided_by_rate", "names a condition", "quotes a condition of the category answered"),
    MetricRow("completion_tokens", "tokens per answer", "reasoning included", digits=0),
)
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
_BY = {
    "place": "by where it stands",
    "kind": "by what it pretends to be",
    "language": "by language",
    "encoding": "by how it is written",
    "naming": "by how it calls the category that it wants",
}
IN_WORDS = {
    "customer": "the customer's last message",
    "agent": "a message of the agent's",
    "definition": "the definition of a category",
    "few_shot": "examples",
    "schema_change": "a change of the schema",
    "en": "English",
    "de": "German",
    "es": "Spanish",
    "fr": "French",
    "zh": "Chinese",
    "ar": "Arabic",
}


def titled(stage: str, report: Report) -> str:
    return "live now" if is_live(stage, report) else stage


def is_live(stage: str, report: Report) -> bool:
    """The candidate comes last, whatever it is called."""
    return stage == LIVE and stage != report.stages[-1].stage


def columns(report: Report) -> Columns:
    def column(one: StageReport) -> Column:
        return Column(
            titled(one.stage, report), one.model, {r.measure: getattr(one, r.measure) for r in ROWS}
        )

    return Columns(
        [column(one) for one in report.stages if not is_live(one.stage, report)],
        [column(one) for one in report.stages if is_live(one.stage, report)],
        [Column(title, "baseline", measures) for title, measures in report.by_baseline.items()],
    )


def differences(last: StageReport) -> list[StageDifference]:
    """Of the candidate from each of those that it is compared with."""
    found = list(last.compared.values())
    return [
        StageDifference("accuracy", [one.accuracy for one in found]),
        StageDifference("steerability", [one.steerability for one in found]),
        StageDifference("flip accuracy", [one.flip_accuracy for one in found]),
        StageDifference("invariance", [one.invariance for one in found]),
        StageDifference(
            "flip accuracy of edits that do not count", [one.others.flip_accuracy for one in found]
        ),
    ]


def attacked(report: Report) -> dict[str, InjectionReport]:
    """By stage: the candidate, then the base, then what is live."""
    asked = {one.stage: one.auxiliary.injection for one in report.stages if one.auxiliary is not None}
    order = dict.fromkeys((report.stages[-1].stage, BASE, LIVE))
    return {stage: asked[stage] for stage in order if stage in asked}


def groups(asked: Sequence[InjectionReport]) -> Iterator[RowGroup]:
    """Levels that occurred for some stage."""
    for what in LEVELS:
        by_level: list[dict[str, Rates]] = [getattr(one, f"by_{what}") for one in asked]
        levels = [level for level in by_level[0] if any(one[level].success.n for one in by_level)]
        if levels:
            yield RowGroup(
                _BY[what], [Level(in_words(level), [one[level] for one in by_level]) for level in levels]
            )


def in_words(level: str) -> str:
    return IN_WORDS.get(level, level.replace("_", " "))
