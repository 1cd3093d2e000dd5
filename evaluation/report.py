"""One report of all stages of a run: what the gate judges, what a person reads, what the service stores."""

import hashlib
import json
import os
import platform
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, Field

from evaluation import measures
from evaluation.contract import score
from evaluation.contract.schema import CategorySchema
from evaluation.contract.score import UNPARSABLE
from evaluation.measures import Judgement, Measure, mean, rate
from evaluation.runner import Measured, Outcome
from evaluation.suites.families import SEEN
from evaluation.suites.steerability import Suite

VERSIONED = ("numpy", "scipy", "httpx", "pydantic", "tokenizers")
EXAMPLES = 8


class Verdict(StrEnum):
    passed = "passed"
    failed = "failed"
    incomplete = "incomplete"


class StageRun(NamedTuple):
    """One stage's model and what it answered to the suite."""

    stage: str
    model: str
    measured: Sequence[Measured]


class FamilyReport(BaseModel):
    seen: bool  # whether training may use this family
    perturbations: int
    steerability: Measure
    flip_accuracy: Measure
    invariance: Measure
    override_rate: Measure


class CategoryReport(BaseModel):
    category: str | None
    n: int
    predicted: int
    recall: float


class Confusion(BaseModel):
    """counts[i][j]: examples of answers[i] answered with answers[j]; the last column counts the unparsable."""

    answers: list[str | None]
    counts: list[list[int]]


class StageReport(BaseModel):
    stage: str
    model: str
    items: int
    accuracy: Measure
    accuracy_gain: Measure | None  # over the stage `base`, paired; None where there is no such stage
    macro_f1: Measure
    majority_category: str | None
    majority_over_selection: Measure
    per_category: list[CategoryReport]
    confusion: Confusion
    steerability: Measure
    steerability_seen: Measure
    steerability_unseen: Measure
    flip_accuracy: Measure
    invariance: Measure
    override_rate: Measure
    per_family: dict[str, FamilyReport]
    unparsable: Measure
    errored: Measure
    forced_read: Measure
    label_mass: Measure
    evidence_rate: Measure  # answers with at least one quote that is in the conversation
    decided_by_rate: Measure  # answers that quote a condition of the category answered
    reasoning_chars: Measure
    completion_tokens: Measure


class Example(BaseModel):
    family: str
    detail: str
    conversation_id: str
    customer: str  # what they said
    definition_before: str | None  # of what the conversation's category is called, before and after the edit
    definition_after: str | None
    gold_before: str | None
    gold_after: str | None
    answer_before: str | None
    answer_after: str | None
    right: bool
    reasoning_before: str
    reasoning_after: str


class Check(BaseModel):
    measure: str
    verdict: Verdict
    reason: str


class GateResult(BaseModel):
    verdict: Verdict
    reasons: list[str]
    policy_sha256: str
    stage: str
    checks: list[Check]


class Report(BaseModel):
    report_version: Literal[1] = 1
    tenant: str
    schema_sha256: str
    suite_sha256: str
    seed: int
    perturbations: int
    items: int
    threshold: float | None = None
    versions: dict[str, str]
    stages: list[StageReport] = Field(min_length=1)
    gate: GateResult | None = None
    baselines: dict[str, Measure] = {}  # under `<baseline>_<measure>`; a baseline's name has no `_`
    examples: list[Example] = []

    @property
    def sha256(self) -> str:
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def assemble(
    tenant: str,
    suite: Suite,
    runs: Sequence[StageRun],
    *,
    threshold: float | None = None,
    baselines: dict[str, Measure] | None = None,
) -> Report:
    """runs: in the order of the stages. The last is the candidate; one called `base` is what it is compared with."""
    judgements = {run.stage: Judgement(suite, run.measured, threshold) for run in runs}
    base = judgements.get("base")
    stages = [_stage(run, judgements[run.stage], base) for run in runs]
    return Report(
        tenant=tenant,
        schema_sha256=suite.schema.sha256,
        suite_sha256=suite.sha256,
        seed=suite.seed,
        perturbations=len(suite.perturbations) - 1,
        items=len(suite.items),
        threshold=threshold,
        versions={"python": platform.python_version()} | {name: version(name) for name in VERSIONED},
        stages=stages,
        baselines=baselines or {},
        examples=_examples(judgements[runs[-1].stage]),
    )


def write(report: Report, path: Path) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        file.write(report.model_dump_json(indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def read(path: Path) -> Report:
    return Report.model_validate_json(path.read_bytes())


def _stage(run: StageRun, judgement: Judgement, base: Judgement | None) -> StageReport:
    natural, rows, suite = judgement.natural, judgement.moved, judgement.suite
    families = [suite.perturbations[moved.perturbation].family for _, moved in rows]
    of_family = {
        f: [r for r, family in zip(rows, families, strict=True) if family == f]
        for f in dict.fromkeys(families)
    }
    of_kind = {
        kind: [r for f, rs in of_family.items() if SEEN[f] is kind for r in rs] for kind in (True, False)
    }
    answered = [m for m in run.measured if m.outcome is not Outcome.errored]
    predictions = [m.prediction for m in answered if m.prediction is not None]
    scored = [p for p in predictions if p.failure is None]
    return StageReport(
        stage=run.stage,
        model=run.model,
        items=len(run.measured),
        accuracy=measures.accuracy(natural),
        accuracy_gain=None if base is None or base is judgement else measures.gain(natural, base.natural),
        macro_f1=measures.macro_f1(natural),
        majority_category=score.majority(list(natural.values())) if natural else None,
        majority_over_selection=measures.over_selection(natural),
        per_category=_per_category(judgement),
        confusion=_confusion(judgement),
        steerability=measures.steerability(rows, suite),
        steerability_seen=measures.steerability(of_kind[True], suite),
        steerability_unseen=measures.steerability(of_kind[False], suite),
        flip_accuracy=measures.flip_accuracy(rows),
        invariance=measures.invariance(rows),
        override_rate=measures.override_rate(rows),
        per_family={family: _family(family, judgement, members) for family, members in of_family.items()},
        unparsable=rate(sum(m.outcome is Outcome.unparsable for m in answered), len(answered)),
        errored=rate(len(run.measured) - len(answered), len(run.measured)),
        forced_read=rate(sum(p.forced_read for p in predictions), len(predictions)),
        label_mass=mean([p.label_mass for p in predictions if p.label_mass is not None]),
        evidence_rate=rate(sum(bool(p.evidence) for p in scored), len(scored)),
        decided_by_rate=rate(sum(p.decided_by is not None for p in scored), len(scored)),
        reasoning_chars=mean([float(len(p.reasoning)) for p in predictions]),
        completion_tokens=mean([float(n) for p in predictions if (n := p.completion_tokens) is not None]),
    )


def _family(family: str, judgement: Judgement, rows: list[tuple[str, score.Moved]]) -> FamilyReport:
    return FamilyReport(
        seen=SEEN[family],
        perturbations=len({moved.perturbation for _, moved in rows}),
        steerability=measures.steerability(rows, judgement.suite),
        flip_accuracy=measures.flip_accuracy(rows),
        invariance=measures.invariance(rows),
        override_rate=measures.override_rate(rows),
    )


def _per_category(judgement: Judgement) -> list[CategoryReport]:
    """On all conversations measured without an edit, rare categories enriched: a recall needs examples."""
    judged = list(judgement.judged.values())
    gold, given = Counter(j.gold for j in judged), Counter(j.given for j in judged)
    recalls = score.recalls(judged)
    return [
        CategoryReport(category=answer, n=gold[answer], predicted=given[answer], recall=recalls[answer])
        for answer in judgement.suite.schema.answers
        if answer in recalls
    ]


def _confusion(judgement: Judgement) -> Confusion:
    answers = list(judgement.suite.schema.answers)
    pairs = Counter((j.gold, j.given) for j in judgement.judged.values())
    counts = [[pairs[gold, given] for given in (*answers, UNPARSABLE)] for gold in answers]
    return Confusion(answers=answers, counts=counts)


def _examples(judgement: Judgement) -> list[Example]:
    """Of the examples that must move: first one of each family that moved right, then of those that did not."""
    suite, items = judgement.suite, judgement.suite.items
    before = {items[m.item].conversation_id: m for m in judgement.measured if not items[m.item].perturbation}
    found: dict[tuple[bool, str], list[Example]] = {}
    for measured in judgement.measured:
        item = items[measured.item]
        earlier = before.get(item.conversation_id)
        if item.must_move and measured.prediction and earlier and earlier.prediction:
            example = _example(suite, earlier, measured)
            found.setdefault((not example.right, example.family), []).append(example)
    groups = [found[key] for key in sorted(found)]
    longest = max((len(group) for group in groups), default=0)
    return [group[i] for i in range(longest) for group in groups if i < len(group)][:EXAMPLES]


def _example(suite: Suite, before: Measured, after: Measured) -> Example:
    assert before.prediction and after.prediction
    item = suite.items[after.item]
    perturbed = suite.perturbations[item.perturbation]
    conversation = suite.conversations[item.conversation_id]
    return Example(
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
        right=after.prediction.failure is None and after.prediction.category == item.gold_after,
        reasoning_before=before.prediction.reasoning,
        reasoning_after=after.prediction.reasoning,
    )


def _definition(schema: CategorySchema, key: str | None) -> str | None:
    return next((category.definition for category in schema.categories if category.key == key), None)
