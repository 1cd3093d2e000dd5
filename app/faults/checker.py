"""A history is compared with what must hold of it, whatever happened meanwhile."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from app.faults.history import Accepted, Artifact, Claim, EndState, FaultHistory, FoundJob, LiveLook
from training.protocol import STAGES

_ENDS_A_CLAIM = {"succeeded", "failed", "cancelled", "retried", "lost", "released", "postponed"}


class Invariant(StrEnum):
    lost = "lost"  # something that was accepted is not there
    doubled = "doubled"  # something is there, or happened, more often than once
    owner = "owner"  # two had one job
    epoch = "epoch"  # it did not grow
    artifact = "artifact"  # it is not what its hash says
    live = "live"  # what answers does not exist, does not fit, or has no passed gate


class Violation(NamedTuple):
    rule: Invariant
    what: str


def check(history: FaultHistory) -> list[Violation]:
    accepted, found = history.accepted, history.found
    return [
        *_uploads(accepted, found),
        *_edits(accepted, found),
        *_runs(accepted, found),
        *_deployments(accepted, found),
        *(violation for job in found.jobs for violation in _job(job)),
        *_models(found),
        *_claims(history.claims),
        *(Violation(Invariant.owner, f"two trainers met in {folder}") for folder in history.not_alone),
        *(violation for artifact in found.artifacts for violation in _artifact(artifact)),
        *_live(history.looks),
        *_answers(history),
        *(Violation(Invariant.lost, f"{what} has not come") for what in history.missing),
    ]


def _uploads(accepted: Accepted, found: EndState) -> Iterator[Violation]:
    for upload in accepted.uploads:
        there = found.datasets.get(upload.dataset_id)
        if there is None or there.state != "ready" or there.sha256 != upload.sha256:
            yield Violation(Invariant.lost, f"upload {upload.dataset_id}: {there}")
        elif there.rows != upload.rows:
            rule = Invariant.lost if there.rows < upload.rows else Invariant.doubled
            yield Violation(rule, f"dataset {upload.dataset_id} has {there.rows} rows of {upload.rows}")


def _edits(accepted: Accepted, found: EndState) -> Iterator[Violation]:
    for edit in accepted.edits:
        if found.versions.get((edit.schema_id, edit.number)) != edit.definition:
            yield Violation(Invariant.lost, f"version {edit.number} of schema {edit.schema_id}")


def _runs(accepted: Accepted, found: EndState) -> Iterator[Violation]:
    ids = {run.run_id: run for run in found.runs}
    for seed, run_id in accepted.runs.items():
        run = ids.get(run_id)
        if run is None or run.seed != seed or run.state != "succeeded":
            yield Violation(Invariant.lost, f"run {run_id}: {run}")
    for seed, count in Counter(run.seed for run in found.runs).items():
        if count > 1:
            yield Violation(Invariant.doubled, f"{count} runs were made of one request (seed {seed})")
        if seed not in accepted.runs and seed not in accepted.doubtful:
            yield Violation(Invariant.doubled, f"a run that nobody was promised (seed {seed})")


def _deployments(accepted: Accepted, found: EndState) -> Iterator[Violation]:
    """One may fail, and then says why; none is forgotten."""
    for deployment in accepted.deployments:
        state = found.deployments.get(deployment)
        if state not in ("live", "retired", "failed"):
            yield Violation(Invariant.lost, f"deployment {deployment} is {state}")


def _job(job: FoundJob) -> Iterator[Violation]:
    """Its events are append-only, so they are the history of its claims."""
    named = f"{job.kind} {job.job_id}"
    succeeded = sum(event["event"] == "succeeded" for event in job.events)
    if job.state == "succeeded" and succeeded == 0:
        yield Violation(Invariant.lost, f"{named} has succeeded without its event")
    if succeeded > 1:
        yield Violation(Invariant.doubled, f"{named} has succeeded {succeeded} times")
    if job.state in ("blocked", "queued", "running"):
        yield Violation(Invariant.lost, f"{named} is {job.state} when everything has ended")
    epoch, claimed = 0, False
    for event in job.events:
        if event["event"] == "started":
            if claimed:
                yield Violation(
                    Invariant.owner, f"{named} was claimed (epoch {event['epoch']}) while another had it"
                )
            if event["epoch"] <= epoch:
                yield Violation(Invariant.epoch, f"{named}: epoch {event['epoch']} came after {epoch}")
            epoch, claimed = event["epoch"], True
        elif event["event"] in _ENDS_A_CLAIM:
            claimed = False
    if epoch > job.epoch:
        yield Violation(Invariant.epoch, f"{named} is at epoch {job.epoch} and was at {epoch}")


def _models(found: EndState) -> Iterator[Violation]:
    """A run's effect: one model, which has what each of its stages has made, once."""
    models = _by_run(found)
    made = _made(found.jobs)
    for run in found.runs:
        own = models.pop(run.run_id, [])
        if len(own) > 1:
            yield Violation(Invariant.doubled, f"run {run.run_id} has made {len(own)} models")
        if run.state == "succeeded" and not own:
            yield Violation(Invariant.lost, f"run {run.run_id} has no model")
        for stages in own:
            if list(stages) != list(STAGES) or stages != made[run.run_id]:
                yield Violation(
                    Invariant.lost, f"the model of run {run.run_id} is not what its stages have made"
                )
    for run_id in models:
        yield Violation(Invariant.doubled, f"a model of a run that is not there: {run_id}")


def _by_run(found: EndState) -> dict[str, list[Mapping[str, str]]]:
    models: dict[str, list[Mapping[str, str]]] = defaultdict(list)
    for model in found.models:
        models[model.run_id].append(model.stages)
    return models


def _made(jobs: Sequence[FoundJob]) -> dict[str, dict[str, Any]]:
    """By run and kind what its stage said that it had made."""
    made: dict[str, dict[str, Any]] = defaultdict(dict)
    for job in jobs:
        for event in job.events:
            if event["event"] == "succeeded" and job.run_id is not None:
                made[job.run_id][job.kind] = event["result"].get("sha256")
    return made


def _claims(claims: Sequence[Claim]) -> Iterator[Violation]:
    owners: dict[tuple[str, int], str | None] = {}
    newest: dict[str, int] = {}
    for claim in claims:
        before = owners.setdefault((claim.job_id, claim.epoch), claim.owner)
        if before != claim.owner:
            yield Violation(
                Invariant.owner, f"job {claim.job_id}, epoch {claim.epoch}: {before} and {claim.owner}"
            )
        if claim.epoch < newest.get(claim.job_id, 0):
            yield Violation(Invariant.epoch, f"job {claim.job_id}: epoch {claim.epoch} was seen again")
        newest[claim.job_id] = max(claim.epoch, newest.get(claim.job_id, 0))


def _artifact(artifact: Artifact) -> Iterator[Violation]:
    if artifact.found != artifact.sha256:
        yield Violation(Invariant.artifact, f"{artifact.key} has {artifact.found} and not {artifact.sha256}")


def _live(looks: Sequence[LiveLook]) -> Iterator[Violation]:
    """Once a deployment has been live, there is one at every later look."""
    began: set[str] = set()
    for look in looks:
        if look.deployments:
            began.add(look.schema_id)
        elif look.schema_id in began:
            yield Violation(Invariant.live, f"schema {look.schema_id} had no live deployment any more")
        if len(look.deployments) > 1:
            yield Violation(
                Invariant.live, f"schema {look.schema_id} had {len(look.deployments)} live deployments"
            )
        for one in look.deployments:
            if one.verdict != "passed":
                yield Violation(
                    Invariant.live, f"deployment {one.deployment_id} is live, its gate {one.verdict}"
                )
            if not one.fits:
                yield Violation(
                    Invariant.live, f"deployment {one.deployment_id} is live on a base that it does not fit"
                )


def _answers(history: FaultHistory) -> Iterator[Violation]:
    known = history.found.deployments
    for answer in history.answers:
        if (
            answer.deployment_id not in known
            or answer.gate not in ("passed", "provisional")
            or not answer.fits
        ):
            yield Violation(Invariant.live, f"an answer was given by {answer}")
