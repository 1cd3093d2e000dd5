"""From answers to a report, and from a report's own sample scores to the same report under other choices."""

import platform
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import version
from typing import Final, NamedTuple

from evaluation.contract import score
from evaluation.contract.schema import CategorySchema
from evaluation.contract.score import UNPARSABLE, is_right
from evaluation.inference.runner import Measured, Outcome
from evaluation.metrics import measures, sample_scores
from evaluation.metrics.auxiliary import AuxiliaryMetrics, temperature_of
from evaluation.metrics.comparison import compare
from evaluation.metrics.measures import GradedAnswers, Measure, Row, mean, rate
from evaluation.metrics.out_of_distribution import OutOfDistributionReport
from evaluation.metrics.sample_scores import SampleScore
from evaluation.reporting.report import (
    CategoryReport,
    Confusion,
    FamilyReport,
    InterimLooks,
    Report,
    ReportedExample,
    StageReport,
)
from evaluation.suites.families import SEEN
from evaluation.suites.steerability import Suite

VERSIONED = ("numpy", "scipy", "httpx", "pydantic", "tokenizers")
EXAMPLES = 8
BASE: Final = "base"
LIVE: Final = "live"
COMPARED_WITH: Final = (BASE, LIVE)


class StageRun(NamedTuple):
    """One stage's model and what it answered to the suite, or to a part of it."""

    stage: str
    model: str
    measured: Sequence[Measured]


class Choices(NamedTuple):
    """threshold: answers that are less sure count as none of these. counted: families; all of them where empty."""

    threshold: float | None = None
    counted: Collection[str] = ()


ALL: Final = Choices()
AT_ONCE: Final = InterimLooks()


class Side(NamedTuple):
    """What was found beside the suite."""

    of_stage: Mapping[str, AuxiliaryMetrics]
    out_of_distribution: OutOfDistributionReport


class Baselines(NamedTuple):
    """measures: under `<baseline>_<measure>`. left_out: by baseline, why it was not measured."""

    measures: Mapping[str, Measure] = {}
    left_out: Mapping[str, str] = {}


class _Stage(NamedTuple):
    name: str
    model: str
    graded_answers: GradedAnswers
    auxiliary: AuxiliaryMetrics | None = None


NO_BASELINES: Final = Baselines()


def assemble(
    tenant: str,
    suite: Suite,
    runs: Sequence[StageRun],
    choices: Choices = ALL,
    *,
    interim_looks: InterimLooks = AT_ONCE,
    side: Side | None = None,
    baselines: Baselines = NO_BASELINES,
) -> Report:
    """runs: in the order of the stages. The last is the candidate; `base` and `live` are what it is compared with."""
    stages = [_answered(suite, run, choices, side) for run in runs]
    return Report(
        tenant=tenant,
        schema_sha256=suite.schema.sha256,
        suite_sha256=suite.sha256,
        seed=suite.seed,
        perturbations=len(suite.perturbations) - 1,
        items=len(suite.items),
        threshold=choices.threshold,
        versions={"python": platform.python_version()} | {name: version(name) for name in VERSIONED},
        counted=_counted(choices.counted),
        left_out=dict(suite.left_out),
        interim_looks=interim_looks,
        out_of_distribution=side and side.out_of_distribution,
        stages=_reports(stages, _counted(choices.counted)),
        baselines=dict(baselines.measures),
        baselines_left_out=dict(baselines.left_out),
        examples=_examples(suite, runs[-1].measured),
        suite=sample_scores.keep(suite),
    )


def _answered(suite: Suite, run: StageRun, choices: Choices, side: Side | None) -> _Stage:
    found = side.of_stage.get(run.stage) if side else None
    given = sample_scores.sample_scores(run.measured, temperature_of(found.calibration) if found else None)
    return _Stage(run.stage, run.model, GradedAnswers(suite, given, choices.threshold), found)


def rescore(made: Report, counted: Collection[str], without: Collection[str] = ()) -> Report:
    """The same answers, other families counted. Its verdict is dropped: it was of other measures.

    without: ids of conversations that count for nothing, under no edit either; baselines are dropped then. What was
    measured beside the suite stays.
    """
    suite = sample_scores.restore(made.suite)

    def graded(stage: StageReport) -> GradedAnswers:
        scores = [s for s in stage.sample_scores if suite.items[s.item].conversation_id not in without]
        return GradedAnswers(suite, scores, made.threshold)

    stages = [_Stage(s.stage, s.model, graded(s), s.auxiliary) for s in made.stages]
    change = {
        "stages": _reports(stages, _counted(counted)),
        "counted": _counted(counted),
        "gate": None,
        "baselines": {} if without else made.baselines,  # whose answers are not kept
    }
    return made.model_copy(update=change)


def _counted(families: Collection[str]) -> tuple[str, ...]:
    return tuple(family for family in SEEN if family in families or not families)


def _reports(stages: Sequence[_Stage], counted: Sequence[str]) -> list[StageReport]:
    others = {stage.name: stage.graded_answers for stage in stages if stage.name in COMPARED_WITH}
    return [_stage(stage, others, counted) for stage in stages]


def _stage(stage: _Stage, others: Mapping[str, GradedAnswers], counted: Sequence[str]) -> StageReport:
    graded_answers = stage.graded_answers
    natural, rows, suite = graded_answers.natural, graded_answers.rows(counted), graded_answers.suite
    seen = [family for family in counted if SEEN[family]]
    asked = {suite.perturbations[row[1].perturbation].family: None for row in graded_answers.moved.values()}
    of_kind = {family: graded_answers.rows((family,)) for family in asked}
    return StageReport(
        stage=stage.name,
        model=stage.model,
        items=len(graded_answers.scores),
        accuracy=measures.accuracy(natural),
        macro_f1=measures.macro_f1(natural),
        majority_category=score.majority(list(natural.values())) if natural else None,
        majority_over_selection=measures.over_selection(natural),
        per_category=_per_category(graded_answers),
        confusion=_confusion(graded_answers),
        steerability=measures.steerability(rows, suite),
        steerability_seen=measures.steerability(graded_answers.rows(seen), suite),
        steerability_unseen=measures.steerability(graded_answers.rows(set(counted) - set(seen)), suite),
        flip_accuracy=measures.flip_accuracy(rows),
        invariance=measures.invariance(rows),
        override_rate=measures.override_rate(rows),
        per_family={family: _family(family, suite, members) for family, members in of_kind.items()},
        auxiliary=stage.auxiliary,
        compared={
            name: compare(graded_answers, other, counted)
            for name, other in others.items()
            if name != stage.name
        },
        sample_scores=list(graded_answers.scores),
        **_about_answers(graded_answers.scores),
    )


def _about_answers(given: Sequence[SampleScore]) -> dict[str, Measure]:
    answered = [m for m in given if m.outcome is not Outcome.errored]
    scored = [m for m in answered if m.outcome is Outcome.scored]
    reasoned = [m for m in scored if m.reasoning_chars is not None]
    return {
        "unparsable": rate(len(answered) - len(scored), len(answered)),
        "errored": rate(len(given) - len(answered), len(given)),
        "forced_read": rate(sum(m.forced_read for m in answered), len(answered)),
        "label_mass": mean([m.label_mass for m in answered if m.label_mass is not None]),
        "evidence_rate": rate(sum(m.quotes > 0 for m in reasoned), len(reasoned)),
        "decided_by_rate": rate(sum(m.names_a_condition for m in reasoned), len(reasoned)),
        "reasoning_chars": mean([float(n) for m in answered if (n := m.reasoning_chars) is not None]),
        "completion_tokens": mean([float(n) for m in answered if (n := m.completion_tokens) is not None]),
    }


def _family(family: str, suite: Suite, rows: list[Row]) -> FamilyReport:
    return FamilyReport(
        seen=SEEN[family],
        perturbations=len({moved.perturbation for _, moved in rows}),
        steerability=measures.steerability(rows, suite),
        flip_accuracy=measures.flip_accuracy(rows),
        invariance=measures.invariance(rows),
        override_rate=measures.override_rate(rows),
    )


def _per_category(graded_answers: GradedAnswers) -> list[CategoryReport]:
    """On all conversations measured without an edit, rare categories enriched: a recall needs examples."""
    graded = list(graded_answers.graded.values())
    gold, given = Counter(j.gold for j in graded), Counter(j.given for j in graded)
    recalls = score.recalls(graded)
    return [
        CategoryReport(category=answer, n=gold[answer], predicted=given[answer], recall=recalls[answer])
        for answer in graded_answers.suite.schema.answers
        if answer in recalls
    ]


def _confusion(graded_answers: GradedAnswers) -> Confusion:
    answers = list(graded_answers.suite.schema.answers)
    pairs = Counter((j.gold, j.given) for j in graded_answers.graded.values())
    counts = [[pairs[gold, given] for given in (*answers, UNPARSABLE)] for gold in answers]
    return Confusion(answers=answers, counts=counts)


def _examples(suite: Suite, answered: Sequence[Measured]) -> list[ReportedExample]:
    """Of the examples that must move: first one of each family that moved right, then of those that did not."""
    items = suite.items
    before = {items[m.item].conversation_id: m for m in answered if not items[m.item].perturbation}
    found: dict[tuple[bool, str], list[ReportedExample]] = {}
    for measured in answered:
        item = items[measured.item]
        earlier = before.get(item.conversation_id)
        if item.must_move and measured.prediction and earlier and earlier.prediction:
            example = _example(suite, earlier, measured)
            found.setdefault((not example.right, example.family), []).append(example)
    groups = [found[key] for key in sorted(found)]
    longest = max((len(group) for group in groups), default=0)
    return [group[i] for i in range(longest) for group in groups if i < len(group)][:EXAMPLES]


def _example(suite: Suite, before: Measured, after: Measured) -> ReportedExample:
    assert before.prediction and after.prediction
    item = suite.items[after.item]
    perturbed = suite.perturbations[item.perturbation]
    conversation = suite.conversations[item.conversation_id]
    return ReportedExample(
        family=perturbed.family,
        detail=perturbed.detail,
        conversation_id=conversation.id,
        customer=" … ".join(conversation.said),
        definition_before=_definition(suite.schema, item.gold_before),
        definition_after=_definition(perturbed.schema, item.gold_before),
        gold_before=item.gold_before,
        gold_after=item.gold_after,
        answer_before=before.prediction.category,
        answer_after=after.prediction.category,
        unreadable_before=before.prediction.failure is not None,
        unreadable_after=after.prediction.failure is not None,
        right=is_right(after.prediction, item.gold_after),
        reasoning_before=before.prediction.reasoning or "",
        reasoning_after=after.prediction.reasoning or "",
    )


def _definition(schema: CategorySchema, key: str | None) -> str | None:
    return next((category.definition for category in schema.categories if category.key == key), None)
