"""One report of all stages of a run: what the gate judges, what a person reads, what the service stores."""

import hashlib
import json
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, Field

from evaluation.atomic_files import write_whole
from evaluation.contract.mode import Mode
from evaluation.metrics.auxiliary import AuxiliaryMetrics
from evaluation.metrics.comparison import Compared
from evaluation.metrics.measures import Measure
from evaluation.metrics.out_of_distribution import OutOfDistributionReport
from evaluation.metrics.sample_scores import KeptSuite, SampleScore


class Verdict(StrEnum):
    passed = "passed"
    failed = "failed"
    incomplete = "incomplete"


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
    compared: dict[str, Compared]  # with the stages `base` and `live`, where the report has them
    auxiliary: AuxiliaryMetrics | None = None
    sample_scores: list[SampleScore]


class ReportedExample(BaseModel):
    """unreadable: an answer that could not be parsed, which is not that it is none of these."""

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
    unreadable_before: bool = False
    unreadable_after: bool = False
    right: bool
    reasoning_before: str
    reasoning_after: str


class Check(BaseModel):
    """needed: examples, where their number decides. families: whose answers could decide it (`identity`: the
    schema as it is); all of them where empty."""

    measure: str
    verdict: Verdict
    reason: str
    families: tuple[str, ...] = ()
    needed: int | None = None


class GateReport(BaseModel):
    """not_judged: what the policy compares with a base, where there is none."""

    verdict: Verdict
    reasons: list[str]
    policy_sha256: str
    stage: str
    checks: list[Check]
    not_judged: list[str] = []


BASELINES: Final = {
    "tfidf": "TF-IDF, linear",
    "embeddings": "embeddings, linear",
    "similarity": "embeddings, similarity",
}  # and what people call them


class InterimLooks(BaseModel):
    """The sample grows until the verdict is clear. planned: the shares of it after which one was to be found."""

    planned: tuple[float, ...] = (1.0,)
    used: int = 1


class Report(BaseModel):
    report_version: Literal[3] = 3
    tenant: str
    schema_sha256: str
    suite_sha256: str
    seed: int
    perturbations: int
    items: int  # that the suite has; a stage says how many it was asked
    threshold: float | None = None
    mode: Mode = Mode.reasoned  # in which every stage was asked
    versions: dict[str, str]
    counted: tuple[str, ...]  # families in steerability, flip accuracy, invariance and override rate
    left_out: dict[str, str] = {}  # families that could not be asked, and why
    interim_looks: InterimLooks = InterimLooks()
    stages: list[StageReport] = Field(min_length=1)
    gate: GateReport | None = None
    baselines: dict[str, Measure] = {}  # under `<baseline>_<measure>`; a baseline's name has no `_`
    baselines_left_out: dict[str, str] = {}  # baselines that were not measured, and why
    examples: list[ReportedExample] = []
    wordless: bool = False  # examples were left out; see `without_words`
    out_of_distribution: OutOfDistributionReport | None = None  # on schemas that no stage was trained for
    suite: KeptSuite

    @property
    def by_baseline(self) -> dict[str, dict[str, Measure]]:
        """Under what people call it."""
        found: dict[str, dict[str, Measure]] = {}
        for key, measure in self.baselines.items():
            baseline, _, name = key.partition("_")
            found.setdefault(BASELINES.get(baseline, baseline), {})[name] = measure
        return found

    @property
    def not_measured(self) -> list[str]:
        return not_measured(self.baselines_left_out)

    @property
    def sha256(self) -> str:
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def not_measured(left_out: Mapping[str, str]) -> list[str]:
    """Which baselines are missing, a sentence for each reason."""
    found: dict[str, list[str]] = {}
    for baseline, reason in left_out.items():
        found.setdefault(reason, []).append(BASELINES.get(baseline, baseline))
    return [f"Not measured: {' and '.join(names)} ({reason})." for reason, names in found.items()]


def without_words(report: Report) -> Report:
    """Nothing that a customer wrote or that was said about it, so that it may be passed on. Every measure stays.

    The edits keep the tenant's definitions, which re-scoring needs; a page shows none of them without examples.
    """
    stages = [_wordless(stage) for stage in report.stages]
    return report.model_copy(update={"stages": stages, "examples": [], "wordless": True})


def _wordless(stage: StageReport) -> StageReport:
    auxiliary_suites = stage.auxiliary
    if auxiliary_suites is None or auxiliary_suites.turns is None:
        return stage
    turns = auxiliary_suites.turns.model_copy(update={"examples": []})
    return stage.model_copy(update={"auxiliary": auxiliary_suites.model_copy(update={"turns": turns})})


def write(report: Report, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, report.model_dump_json(indent=1).encode() + b"\n")


def read(path: Path) -> Report:
    return Report.model_validate_json(path.read_bytes())
