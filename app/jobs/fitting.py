"""Jobs that need more memory than a worker has. A worker takes none of them; what fits no worker that is alive says so,
in its own record, until one comes that it fits.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.infra.db.engine import Database
from app.infra.db.session import transaction
from app.infra.tables.jobs import JobKind, JobState
from app.infra.tables.processes import Process
from app.jobs import repository
from app.jobs.ends import JobError
from app.jobs.handlers import QUEUE_OF, Queue
from app.jobs.repository import NO_WORKER_FITS, Needing
from app.jobs.sweeping import each
from app.settings import Settings

ROOM, QUEUES = "room_bytes", "queues"  # in what a worker says about itself
EVERY_S = 10.0
AT_ONCE = 500
_EVERYTHING = 1 << 62


def largest(workers: Sequence[Process]) -> dict[Queue, int]:
    """By queue the most memory that one of its workers has. One of before, which does not say, takes everything."""
    known, found = {queue.value: queue for queue in Queue}, dict[Queue, int]()
    for worker in workers:
        room = worker.about.get(ROOM)
        for name in worker.about.get(QUEUES, ()):
            if (queue := known.get(name)) is not None:
                found[queue] = max(found.get(queue, 0), _EVERYTHING if room is None else int(room))
    return found


def fits(kind: JobKind, needs_bytes: int, rooms: Mapping[Queue, int]) -> bool:
    """Where a queue has no worker at all, that is what is wrong, and is told elsewhere."""
    room = rooms.get(QUEUE_OF[kind])
    return room is None or needs_bytes <= room


async def unfit(session: AsyncSession, alive_s: float) -> int:
    """How many waiting jobs fit no worker, of all tenants."""
    rooms = largest(await repository.workers(session, alive_s))
    waiting = await repository.needing(session, AT_ONCE)
    return sum(not fits(one.kind, one.needs_bytes, rooms) for one in waiting)


async def sweep(alive_s: float, database: Database, _settings: Settings) -> None:
    """alive_s: a worker that was not seen for so long is taken for dead."""
    async with transaction(database, read_only=True) as session:
        rooms = largest(await repository.workers(session, alive_s))
        waiting = await repository.needing(session, AT_ONCE)
    changed = [one for one in waiting if fits(one.kind, one.needs_bytes, rooms) is one.told]
    await each("fitting", changed, partial(_tell, database, rooms))


async def _tell(database: Database, rooms: Mapping[Queue, int], one: Needing) -> None:
    error = None if one.told else _error(one, rooms).stored
    async with transaction(database, one.scope) as session:
        job = await repository.lock(session, one.scope, one.id)
        if job is None or job.state is not JobState.queued:
            return
        written = await repository.write(session, job, {"error": error})
        event: dict[str, Any] = {"event": "waits_for_worker", "needs_bytes": one.needs_bytes}
        event |= {"fits": True} if error is None else {"fits": False, "error": error}
        await repository.add_events(session, one.scope, written, [event])


def _error(one: Needing, rooms: Mapping[Queue, int]) -> JobError:
    room = rooms[QUEUE_OF[one.kind]]
    return JobError(
        NO_WORKER_FITS,
        f"it needs {gib(one.needs_bytes)} GiB, and the largest worker has {gib(room)} GiB: it begins when one with as "
        "much is there; smaller values of `micro_batch_size` need less",
    )


def gib(size: int) -> str:
    return f"{size / (1 << 30):.1f}"
