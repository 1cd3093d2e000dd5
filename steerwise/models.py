"""What the API gives, and what it takes: written from its OpenAPI document by tests/steerwise/generated.py.

A name that Python reserves has an underscore behind it. Fields that a newer API has besides are kept as extras, and
what an older one lacks is None where that is a value of it.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, NotRequired, Required, TypedDict

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())


class Answer(Model):
    id: str
    category: str | None = None
    mode: str
    reasoning: str | None = None
    reasoning_order: str | None = None
    evidence: list[Evidence] | None = None
    decided_by: DecidedBy | None = None
    confidence: float | None = None
    probabilities: list[Probability] | None = None
    label_mass: float | None = None
    calibration: Calibration
    abstained: bool
    failure: str | None = None
    forced_read: bool
    model_version: str | None = None
    schema_version: int | None = None
    gate: str
    deployment_id: str | None = None
    provisional: bool
    degraded: bool
    usage: Tokens
    latency_ms: float


class ApiKey(Model):
    id: str
    tenant_id: str | None = None
    name: str
    prefix: str
    parent_id: str | None = None
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None


class Batch(Model):
    results: list[BatchResult]


class BatchResult(Model):
    id: str
    answer: Answer | None = None
    problem: ProblemDocument | None = None


class Budget(Model):
    window_h: int
    runs: int
    gpu_s: float | None = None


class Calibration(Model):
    method: str
    n: int
    ece: float | None = None


class CategoryCount(Model):
    category: str | None = None
    conversations: int


class CategoryFound(Model):
    category: str | None = None
    conversations: int


class Category(Model):
    key: str
    name: str
    definition: str
    includes: list[str]
    excludes: list[str]


class Content(Model):
    name: str
    none_of_these: bool
    categories: list[Category]


class ContradictionFound(Model):
    text: str
    ids: list[str]
    categories: list[str | None]


class Conversation(Model):
    language: str | None = None
    channel: str | None = None
    time: datetime | None = None
    customer_reference: str | None = None
    metadata: dict[str, Any] | None = None
    id: str
    dataset_id: str
    external_id: str
    messages: list[Message]
    split: str
    group_id: str
    label: Label | None = None
    created_at: datetime


class Counts(Model):
    conversations: int
    labelled: int
    rejected: int
    exact_duplicates: int
    near_duplicates: int
    moved: int
    contradicting: int
    splits: list[SplitCounts]


class Dataset(Model):
    id: str
    schema_id: str
    name: str
    state: str
    counts: Counts
    problem: DatasetProblem | None = None
    findings: Findings | None = None
    validation: Validation | None = None
    created_at: datetime


class DatasetProblem(Model):
    code: str
    message: str


class DecidedBy(Model):
    kind: str
    key: str | None = None
    text: str


class Deployment(Model):
    id: str
    state: str
    schema_id: str
    schema_version: int
    model_version_id: str
    gate_id: str
    mode: str
    replaces_id: str | None = None
    created_at: datetime
    activated_at: datetime | None = None
    retired_at: datetime | None = None
    problem: str | None = None
    retrain: Retrain | None = None


class Evidence(Model):
    quote: str
    message_index: int


class Failure(Model):
    code: str
    message: str
    details: list[str]


class Feedback(Model):
    right: bool
    labelled: bool
    category_key: str | None = None
    source: str
    given_at: datetime
    dataset_id: str | None = None
    conversation_id: str | None = None


class Findings(Model):
    taken_for: str
    meaning: list[str]
    conversations: int
    labelled: int
    splits: list[SplitFound]
    rejected: int
    rejects: list[RejectFound]
    exact_duplicates: int
    near_duplicates: int
    moved: int
    contradictions: int
    contradicting: list[ContradictionFound]
    not_read: list[str]
    redacted: dict[str, int]
    problem: str | None = None


class Forgotten(Model):
    answers: int
    conversations: list[str]
    runs: list[str]
    model_versions: list[str]


class Gate(Model):
    id: str
    state: str
    verdict: str | None = None
    reasons: list[str]
    model_version_id: str
    schema_id: str
    schema_version: int
    mode: str
    policy_sha256: str
    label_free: LabelFree | None = None
    progress: GateProgress | None = None
    created_at: datetime
    finished_at: datetime | None = None


class GateProgress(Model):
    job_id: str
    state: str
    done: int | None = None
    total: int | None = None
    message: str | None = None
    waits_for: str | None = None


class KeptAnswer(Model):
    language: str | None = None
    channel: str | None = None
    time: datetime | None = None
    customer_reference: str | None = None
    metadata: dict[str, Any] | None = None
    id: str
    created_at: datetime
    expires_at: datetime
    conversation_reference: str | None = None
    messages: list[Message]
    schema_id: str
    schema_version_id: str
    deployment_id: str | None = None
    model_version_id: str | None = None
    mode: str
    category: str | None = None
    confidence: float | None = None
    probabilities: list[Probability] | None = None
    label_mass: float | None = None
    abstained: bool
    degraded: bool
    provisional: bool
    failure: str | None = None
    reasoning: str | None = None
    evidence: list[Evidence] | None = None
    decided_by: DecidedBy | None = None
    feedback: Feedback | None = None


class LabelFree(Model):
    n: int
    follows: Share
    stays: dict[str, Share]
    injection_success: Share
    unparsable: Share
    labelled: int
    missing: int
    label_first: list[ToLabel]


class Label(Model):
    category_key: str | None = None
    schema_version_id: str | None = None
    source: str
    criterion: str | None = None
    created_by: str | None = None
    created_at: datetime


class Me(Model):
    key: ApiKey | None = None
    person: Person | None = None
    tenant_name: str | None = None
    platform_admin: bool


class Message(Model):
    role: str
    text: str


class Person(Model):
    id: str
    tenant_id: str
    issuer: str
    subject: str
    name: str | None = None
    scopes: list[str]
    expires_at: datetime | None = None


class Probability(Model):
    category: str | None = None
    probability: float


class ProblemDocument(Model):
    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    problems: list[ProblemEntry] | None = None


class ProblemEntry(Model):
    where: str
    message: str


class Progress(Model):
    stage: str
    done: int | None = None
    total: int | None = None
    message: str | None = None
    eta_s: float | None = None


class RejectFound(Model):
    line: int
    reason: str


class Retrain(Model):
    schema_id: str
    dataset_id: str
    preset: str | None = None


class RunFailure(Model):
    code: str
    message: str
    details: list[str]
    stage: str


class Run(Model):
    id: str
    state: str
    schema_id: str
    schema_version: int
    dataset_id: str
    preset: str | None = None
    seed: int
    base: str
    priority: str
    created_at: datetime
    finished_at: datetime | None = None
    error: RunFailure | None = None
    model_version_id: str | None = None
    trigger: RunTrigger | None = None
    progress: Progress
    stages: list[Stage]


class RunTrigger(Model):
    trigger_id: str
    name: str
    kind: str
    reason: str
    figures: dict[str, Any]
    threshold: float | None = None
    window_h: int | None = None
    rule: dict[str, Any]
    at: datetime


class Schema(Model):
    id: str
    name: str
    draft_revision: int
    latest_version: int | None = None
    current_version: int | None = None
    created_at: datetime
    updated_at: datetime


class Share(Model):
    value: float | None = None
    n: int
    ci95: list[Any] | None = None


class SimulatedHold(Model):
    brake: str
    checks: int
    first_at: datetime
    reason: str


class SimulatedStart(Model):
    at: datetime
    reason: str
    figures: dict[str, Any]


class Simulation(Model):
    first: datetime
    last: datetime
    checks: int
    met: int
    starts: list[SimulatedStart]
    held_back: list[SimulatedHold]
    last_reason: str | None = None
    run_gpu_s: float
    events: dict[str, int]


class SplitCounts(Model):
    split: str
    conversations: int
    labelled: int
    categories: list[CategoryCount]


class SplitFound(Model):
    split: str
    conversations: int
    labelled: int
    categories: list[CategoryFound]


class Stage(Model):
    kind: str
    needs_gib: float | None = None
    state: str
    attempt: int
    done: int | None = None
    total: int | None = None
    message: str | None = None
    eta_s: float | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    heard_at: datetime | None = None
    silent_s: float | None = None
    metrics: dict[str, Any] | None = None
    error: Failure | None = None


class ToLabel(Model):
    conversation_id: str
    answered: str | None = None
    why: str


class Tokens(Model):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None


class Trigger(Model):
    id: str
    name: str
    schema_id: str
    dataset_id: str
    kind: str
    rule: dict[str, Any]
    preset: str
    seed: int
    cool_down_h: int
    budget: Budget
    paused: bool
    checked_at: datetime | None = None
    outcome: str | None = None
    reason: str | None = None
    figures: dict[str, Any] | None = None
    held_at: datetime | None = None
    held_reason: str | None = None
    started_at: datetime | None = None
    run_id: str | None = None
    created_at: datetime


class Upload(Model):
    received_bytes: int
    total_bytes: int | None = None
    complete: bool
    sha256: str | None = None
    state: str


class UsageDay(Model):
    day: date
    requests: int
    prompt_tokens: int
    completion_tokens: int


class Usage(Model):
    days: list[UsageDay]
    requests: int
    prompt_tokens: int
    completion_tokens: int


class Validation(Model):
    job_id: str
    state: str
    done: int | None = None
    total: int | None = None
    message: str | None = None


class Version(Model):
    id: str
    schema_id: str
    number: int
    content: Content
    sha256: str
    published_at: datetime
    published_by: str | None = None


class AnswersQuery(TypedDict, total=False):
    schema_id: str | None
    schema_version_id: str | None
    model_version_id: str | None
    mode: str | None
    category: str | None
    min_confidence: float | None
    max_confidence: float | None
    abstained: bool | None
    degraded: bool | None
    feedback: bool | None
    from_: str | None
    to: str | None
    conversation_reference: str | None
    language: str | None
    channel: str | None
    customer_reference: str | None
    time_from: str | None
    time_to: str | None
    metadata: list[str] | None


class BatchIn(TypedDict, total=False):
    schema_id: NotRequired[str | None]
    schema: NotRequired[str | None]
    schema_version: NotRequired[int | str | None]
    categories: NotRequired[list[CategoryIn] | None]
    none_of_these: NotRequired[bool]
    question: NotRequired[str | None]
    mode: NotRequired[str | None]
    explain: NotRequired[bool]
    items: Required[list[BatchItemIn]]


class BatchItemIn(TypedDict, total=False):
    language: NotRequired[str | None]
    channel: NotRequired[str | None]
    time: NotRequired[str | None]
    customer_reference: NotRequired[str | None]
    metadata: NotRequired[dict[str, Any] | None]
    text: NotRequired[str | None]
    messages: NotRequired[list[MessageIn] | None]
    conversation_reference: NotRequired[str | None]
    id: Required[str]


class BudgetIn(TypedDict, total=False):
    window_h: NotRequired[int]
    runs: NotRequired[int]
    gpu_s: NotRequired[float | None]


class ByHandRule(TypedDict, total=False):
    kind: Required[str]


class CategoryIn(TypedDict, total=False):
    key: Required[str]
    name: NotRequired[str | None]
    definition: Required[str]
    includes: NotRequired[list[str]]
    excludes: NotRequired[list[str]]


class ClassifyIn(TypedDict, total=False):
    language: NotRequired[str | None]
    channel: NotRequired[str | None]
    time: NotRequired[str | None]
    customer_reference: NotRequired[str | None]
    metadata: NotRequired[dict[str, Any] | None]
    text: NotRequired[str | None]
    messages: NotRequired[list[MessageIn] | None]
    conversation_reference: NotRequired[str | None]
    schema_id: NotRequired[str | None]
    schema: NotRequired[str | None]
    schema_version: NotRequired[int | str | None]
    categories: NotRequired[list[CategoryIn] | None]
    none_of_these: NotRequired[bool]
    question: NotRequired[str | None]
    mode: NotRequired[str | None]
    explain: NotRequired[bool]


class ConversationIn(TypedDict, total=False):
    language: NotRequired[str | None]
    channel: NotRequired[str | None]
    time: NotRequired[str | None]
    customer_reference: NotRequired[str | None]
    metadata: NotRequired[dict[str, Any] | None]
    id: Required[str]
    messages: Required[list[MessageIn]]
    category: NotRequired[str | None]
    criterion: NotRequired[str | None]
    schema_version_id: NotRequired[str | None]
    split: NotRequired[str | None]


class ConversationsQuery(TypedDict, total=False):
    split: str | None
    language: str | None
    channel: str | None
    customer_reference: str | None
    time_from: str | None
    time_to: str | None
    metadata: list[str] | None


class CorrectionsRule(TypedDict, total=False):
    kind: Required[str]
    corrections: Required[int]


class DatasetIn(TypedDict, total=False):
    name: Required[str]
    schema_id: Required[str]


class DatasetsQuery(TypedDict, total=False):
    schema_id: str | None


class DeploymentIn(TypedDict, total=False):
    gate_id: Required[str]


class DriftRule(TypedDict, total=False):
    window_h: NotRequired[int]
    min_answers: NotRequired[int]
    kind: Required[str]
    threshold: NotRequired[float]


class ExportQuery(TypedDict, total=False):
    format: str
    schema_id: str | None
    schema_version_id: str | None
    model_version_id: str | None
    mode: str | None
    category: str | None
    min_confidence: float | None
    max_confidence: float | None
    abstained: bool | None
    degraded: bool | None
    feedback: bool | None
    from_: str | None
    to: str | None
    conversation_reference: str | None
    language: str | None
    channel: str | None
    customer_reference: str | None
    time_from: str | None
    time_to: str | None
    metadata: list[str] | None


class FailedEditRule(TypedDict, total=False):
    kind: Required[str]


class FeedbackIn(TypedDict, total=False):
    right: Required[bool]
    category_key: NotRequired[str | None]
    source: NotRequired[str]
    dataset_id: NotRequired[str | None]


class ForgetQuery(TypedDict, total=False):
    customer_reference: str | None
    conversation_reference: str | None


class GateIn(TypedDict, total=False):
    model_version_id: Required[str]
    schema_version: NotRequired[int | None]
    mode: NotRequired[str | None]


class LabelMassRule(TypedDict, total=False):
    window_h: NotRequired[int]
    min_answers: NotRequired[int]
    kind: Required[str]
    fall: NotRequired[float]


class MessageIn(TypedDict, total=False):
    role: Required[str]
    text: Required[str]


class NoneRateRule(TypedDict, total=False):
    window_h: NotRequired[int]
    min_answers: NotRequired[int]
    kind: Required[str]
    rise: NotRequired[float]


class RunIn(TypedDict, total=False):
    schema_id: Required[str]
    schema_version: NotRequired[int | None]
    dataset_id: Required[str]
    preset: NotRequired[str]
    stages: NotRequired[list[dict[str, Any]] | None]
    seed: NotRequired[int]
    base: NotRequired[str | None]
    needs_gib: NotRequired[float | None]
    priority: NotRequired[str]


class ScheduleRule(TypedDict, total=False):
    kind: Required[str]
    cron: NotRequired[str | None]
    every_days: NotRequired[int | None]


class SchemaIn(TypedDict, total=False):
    name: Required[str]
    draft: NotRequired[dict[str, Any]]


class SimulationIn(TypedDict, total=False):
    schema_id: Required[str]
    dataset_id: Required[str]
    rule: Required[
        ByHandRule
        | ScheduleRule
        | CorrectionsRule
        | DriftRule
        | NoneRateRule
        | LabelMassRule
        | FailedEditRule
    ]
    cool_down_h: NotRequired[int]
    budget: NotRequired[BudgetIn]
    first: NotRequired[str | None]
    last: NotRequired[str | None]
    trigger_id: NotRequired[str | None]


class TriggerIn(TypedDict, total=False):
    name: Required[str]
    schema_id: Required[str]
    dataset_id: Required[str]
    rule: Required[
        ByHandRule
        | ScheduleRule
        | CorrectionsRule
        | DriftRule
        | NoneRateRule
        | LabelMassRule
        | FailedEditRule
    ]
    preset: NotRequired[str]
    seed: NotRequired[int]
    cool_down_h: NotRequired[int]
    budget: NotRequired[BudgetIn]
    paused: NotRequired[bool]


class TriggersQuery(TypedDict, total=False):
    schema_id: str | None


class UploadQuery(TypedDict, total=False):
    check: bool


class UsageQuery(TypedDict, total=False):
    from_: str | None
    to: str | None
