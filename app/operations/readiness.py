"""What an API process depends on, and how it is: ready means that requests are served, degraded that some are not."""

import asyncio
import shutil
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import structlog
from redis.asyncio import Redis

from app.deployments import repository as deployments
from app.infra import outage
from app.infra.db.engine import Database
from app.infra.db.session import transaction
from app.infra.storage import Storage
from app.infra.tables.processes import ProcessKind
from app.jobs import fitting, maintenance
from app.operations import repository
from app.operations.presence import ALIVE_S
from app.serving.replicas import Replicas
from app.settings import Settings

T = TypeVar("T")
PART_S = 2.0  # so long one part may keep the answer
_KEPT_S = 5.0  # answers about the storage and the model servers: probes come from several sides
log = structlog.get_logger()


class Parts(NamedTuple):
    """Each None where it could not be found out."""

    redis: bool | None
    redis_named: bool
    storage: bool
    model_servers: int
    model_servers_well: int
    free_mib: int
    dispatchers: int | None
    workers: int | None
    not_served: int | None
    unfit: int | None
    paused: str | None  # why no job begins

    def problems(self, settings: Settings) -> list[str]:
        """What does not work, a sentence each; empty: everything does."""
        found = []
        if self.redis_named and not self.redis:
            found.append("Redis cannot be reached: what is accepted is kept, and begins when it is back")
        if not self.storage:
            found.append("the storage cannot be used: uploads, runs and reports wait; the log says why")
        if self.model_servers_well < self.model_servers:
            found.append(
                f"{self.model_servers - self.model_servers_well} of {self.model_servers} model servers do not answer"
            )
        if self.free_mib < settings.min_free_mib:
            found.append(
                f"{settings.home} has {self.free_mib} MiB free, and {settings.min_free_mib} are needed"
            )
        if self.paused is not None:
            found.append(
                f"maintenance ({self.paused}): what is accepted is kept, and no job begins until it ends"
            )
        if self.dispatchers == 0:
            found.append(
                "no dispatcher has been seen: what is accepted is kept, and nothing in the background begins"
            )
        if self.workers == 0:
            found.append("no worker has been seen: uploads, runs and deployments wait")
        if self.unfit:
            found.append(
                f"{self.unfit} jobs need more memory than any worker has: they wait, and each says how much it needs"
            )
        if self.not_served:
            found.append(
                f"{self.not_served} live deployments are not served, as their models do not fit what is served here "
                "(another base, or longer answers); each says so, and proposes a run"
            )
        return found


class Readiness:
    """One for a process. Asked often, it asks others seldom."""

    def __init__(self, settings: Settings, storage: Storage, replicas: Replicas):
        self._settings, self._storage, self._replicas = settings, storage, replicas
        self._kept: dict[str, tuple[float, asyncio.Task[Any]]] = {}

    async def aclose(self) -> None:
        """Whoever has been asked need not answer any more."""
        tasks = [task for _, task in self._kept.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def parts(self, database: Database) -> Parts:
        redis, storage, well, seen = await asyncio.gather(
            self._of("redis", self._redis),
            self._of("storage", self._storage_works),
            self._of("model servers", self._well),
            self._of("database", lambda: _seen(database), kept_s=0.0),
        )
        return Parts(
            redis,
            self._settings.redis_url is not None,
            bool(storage),
            len(self._replicas.all),
            well or 0,
            _free_mib(self._settings.home),
            *(seen or (None, None, None, None, None)),
        )

    async def _of(self, name: str, ask: Any, kept_s: float = _KEPT_S) -> Any:
        """What `ask` says, or said a moment ago; None where it has said nothing yet or fails. One asks at a time."""
        asked_at, task = self._kept.get(name, (-1e9, None))
        if task is None or (task.done() and time.monotonic() > asked_at + kept_s):
            task = asyncio.create_task(_quietly(name, ask()))
            self._kept[name] = (time.monotonic(), task)
        try:
            async with asyncio.timeout(PART_S):
                return await asyncio.shield(task)
        except TimeoutError:
            return None

    async def _redis(self) -> bool:
        if self._settings.redis_url is None:
            return False
        client = Redis.from_url(
            self._settings.redis_url, socket_timeout=PART_S / 2, socket_connect_timeout=PART_S / 2
        )
        try:
            await client.ping()
        finally:
            await client.aclose()
        return True

    async def _storage_works(self) -> bool:
        await asyncio.to_thread(self._storage.check)
        return True

    async def _well(self) -> int:
        return sum(await asyncio.gather(*(replica.healthy() for replica in self._replicas.all)))


async def _quietly(name: str, asked: Awaitable[T]) -> T | None:
    try:
        return await asked
    except Exception as error:
        if not outage.passes(error):
            raise
        log.warning("part_away", part=name, error=outage.reason(error))
        return None


async def _seen(database: Database) -> tuple[int, int, int, int, str | None]:
    async with transaction(database, read_only=True) as session:
        return (
            await repository.count_of(session, ProcessKind.dispatcher, ALIVE_S),
            await repository.count_of(session, ProcessKind.worker, ALIVE_S),
            await deployments.not_served(session),
            await fitting.unfit(session, ALIVE_S),
            (await maintenance.state(session)).reason,
        )


def _free_mib(home: Path) -> int:
    """Of the disk that the home is on, or will be."""
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    return shutil.disk_usage(there).free >> 20
