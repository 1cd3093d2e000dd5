"""What a fault run has seen: what was accepted, what is there in the end, and what it saw in between."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Upload(NamedTuple):
    dataset_id: str
    sha256: str
    rows: int


class Edit(NamedTuple):
    """definition: of its first category, which no other edit has."""

    schema_id: str
    number: int
    definition: str


class Accepted(NamedTuple):
    """Everything that was answered with a success. runs: by their seed, of which each is used once.

    doubtful: seeds of runs whose answer never came; they may be there, once.
    """

    uploads: Sequence[Upload]
    edits: Sequence[Edit]
    runs: Mapping[int, str]
    deployments: Sequence[str]
    doubtful: frozenset[int] = frozenset()


class FoundDataset(NamedTuple):
    state: str
    sha256: str | None
    rows: int


class FoundRun(NamedTuple):
    run_id: str
    seed: int
    state: str
    error: str | None


class FoundJob(NamedTuple):
    """events: in their order, each as it was written. subject: what it works on."""

    job_id: str
    kind: str
    run_id: str | None
    subject: str
    state: str
    epoch: int
    events: Sequence[Mapping[str, Any]]


class FoundModel(NamedTuple):
    """stages: by kind the sha256 of what it made, as the model lists it."""

    model_id: str
    run_id: str
    stages: Mapping[str, str]


class Artifact(NamedTuple):
    """found: the hash of what lies there; None where nothing does."""

    key: str
    sha256: str
    found: str | None


class Claim(NamedTuple):
    """A job as it was seen running."""

    job_id: str
    epoch: int
    owner: str | None


class LiveLook(NamedTuple):
    """One look: which deployments of a schema were live, and how each stands."""

    schema_id: str
    deployments: Sequence["LiveDeployment"]


class LiveDeployment(NamedTuple):
    """fits: its model was trained on the base that is served."""

    deployment_id: str
    verdict: str | None
    fits: bool


class EndState(NamedTuple):
    """In the end. versions: by schema and number the definition of the first category."""

    datasets: Mapping[str, FoundDataset]
    versions: Mapping[tuple[str, int], str]
    runs: Sequence[FoundRun]
    jobs: Sequence[FoundJob]
    models: Sequence[FoundModel]
    gates: Mapping[str, str]
    deployments: Mapping[str, str]
    artifacts: Sequence[Artifact]


class FaultHistory(NamedTuple):
    """looks: in their order. answers: deployments that answered a question, each with its gate's word, and whether its
    base was served then. not_alone: folders in which two trainers met. missing: what had not come when nobody waited
    any longer, besides what was accepted."""

    accepted: Accepted
    found: EndState
    claims: Sequence[Claim]
    looks: Sequence[LiveLook]
    answers: Sequence["GivenAnswer"]
    not_alone: Sequence[str]
    missing: Sequence[str] = ()


class GivenAnswer(NamedTuple):
    deployment_id: str | None
    gate: str
    fits: bool
