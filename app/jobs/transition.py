"""What the end of an attempt makes of the job: ended, or queued again after a while."""

from typing import Any, NamedTuple, assert_never

from app.infra.db.clock import now
from app.infra.tables.jobs import Job, JobState
from app.jobs.ends import Cancelled, End, Failed, JobError, JobOutcome, Lost, Postponed, Released, Succeeded
from app.jobs.lease import Event, storable

# A job that takes its worker down with it must end too, and one loss does not tell it from bad luck.
MAX_LOSSES = 8
MAX_BACKOFF_S = 300
WORKER_LOST = "worker_lost"
_WAITED = "waited"  # in what a waiting job's row says: how often in a row it was tried in vain


class Change(NamedTuple):
    state: JobState
    values: dict[str, Any]
    event: Event


def change_of(job: Job, end: End) -> Change:
    """A cancel that was asked for comes before everything that happened after it."""
    if job.cancel_requested_at is not None or isinstance(end, Cancelled):
        asked = {"cancel_requested_at": job.cancel_requested_at or now()}
        return Change(JobState.cancelled, asked, {"event": "cancelled"})
    match end:
        case Succeeded(outcome):
            return _succeeded(outcome)
        case Failed():
            return _failed(job, end)
        case Lost():
            return _lost(job, end)
        case Released():
            values = {"attempt": job.attempt - 1, "available_at": now()}
            return Change(JobState.queued, values, {"event": "released"})
        case Postponed():
            return _postponed(job, end)
    assert_never(end)


def backoff_s(times: int) -> float:
    return float(min(2 ** (times - 1), MAX_BACKOFF_S))


def _succeeded(outcome: JobOutcome) -> Change:
    event: Event = {"event": "succeeded", "result": storable(dict(outcome.result))}
    return Change(JobState.succeeded, {"error": None}, event)


def _failed(job: Job, end: Failed) -> Change:
    error = {"error": end.error.stored}
    event: Event = {"attempt": job.attempt} | error
    if end.final or job.attempt >= job.max_attempts:
        return Change(JobState.failed, error, {"event": "failed"} | event)
    wait_s = backoff_s(job.attempt)
    again = {"available_at": now(wait_s)}
    return Change(JobState.queued, error | again, {"event": "retried", "wait_s": wait_s} | event)


def _postponed(job: Job, end: Postponed) -> Change:
    times = 1 + (0 if _went_on(job, end.most_s) else (job.error or {}).get(_WAITED, 0))
    wait_s = min(backoff_s(times), end.most_s)
    values = {"error": end.error.stored | {_WAITED: times}}
    again = {"attempt": job.attempt - 1, "available_at": now(wait_s)}
    event = {"event": "postponed", "wait_s": wait_s, "error": end.error.stored}
    return Change(JobState.queued, values | again, event)


def _went_on(job: Job, for_s: float) -> bool:
    """Whether the claim that ends lasted for so long: what the job waits for now went away after it had come back."""
    if job.started_at is None or job.heartbeat_at is None:
        return False
    return (job.heartbeat_at - job.started_at).total_seconds() > for_s


def _lost(job: Job, end: Lost) -> Change:
    """The attempt is not counted: it was not the task that failed."""
    losses = job.losses + 1
    counts = {"losses": losses, "attempt": job.attempt - 1}
    event: Event = {"losses": losses, "epoch": job.epoch}
    if losses >= MAX_LOSSES:
        error = {"error": (end.error or JobError(WORKER_LOST, f"its worker was lost {losses} times")).stored}
        return Change(JobState.failed, counts | error, {"event": "failed"} | error | event)
    wait_s = backoff_s(losses)
    again = {"available_at": now(wait_s)} | ({} if end.error is None else {"error": end.error.stored})
    return Change(JobState.queued, counts | again, {"event": "lost", "wait_s": wait_s} | event)
