"""How the installation stands, for Prometheus: read from the database as it is asked for. No tenant is a label.

Every API process tells the same, so a dashboard takes the largest and never the sum.
"""

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from app.infra.db.engine import Database
from app.infra.db.session import transaction
from app.infra.tables.jobs import JobState
from app.infra.tables.processes import ProcessKind
from app.jobs import fitting
from app.jobs.handlers import QUEUE_OF, Queue
from app.operations import repository
from app.operations.presence import ALIVE_S


async def exposed(database: Database) -> bytes:
    async with transaction(database, read_only=True) as session:
        waiting = await repository.waiting(session)
        counted = await repository.counted(session)
        alive = await repository.alive(session, ALIVE_S)
        silent_s = await repository.silent_s(session)
        unfit = await fitting.unfit(session, ALIVE_S)
    registry = CollectorRegistry()
    length = _gauge(registry, "queue_length", "Jobs that could be done now.", "queue")
    age = _gauge(registry, "queue_oldest_seconds", "How long the oldest of them could have been.", "queue")
    for queue in Queue:  # an empty queue is a 0, and not a series that is missing
        own = [one for one in waiting if QUEUE_OF[one.kind] is queue]
        length.labels(queue.value).set(sum(one.jobs for one in own))
        age.labels(queue.value).set(max((one.oldest_s for one in own), default=0.0))
    jobs = _gauge(registry, "jobs", "By kind and state, since the beginning.", "kind", "state")
    known = {(one.kind, one.state): one.jobs for one in counted}
    for kind in QUEUE_OF:
        for state in JobState:
            jobs.labels(kind.value, state.value).set(known.get((kind, state), 0))
    processes = _gauge(registry, "processes_alive", "Seen in the last half minute.", "kind")
    for role in ProcessKind:
        processes.labels(role.value).set(sum(one.kind is role for one in alive))
    _gauge(registry, "job_silent_seconds", "Since the longest silent running job was heard.").set(silent_s)
    _gauge(registry, "jobs_without_worker", "Waiting, and needing more memory than any worker has.").set(
        unfit
    )
    return generate_latest(registry)


def _gauge(registry: CollectorRegistry, name: str, told: str, *labels: str) -> Gauge:
    return Gauge(f"steerwise_{name}", told, labels, registry=registry)
