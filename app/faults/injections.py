"""The faults: what each does, how long it holds, and how much of the work it keeps from being done meanwhile."""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import asyncpg

from app.faults import model_server, object_store, process_tree
from app.faults.plant import Plant
from app.infra import failpoints

ALL, NOTHING = 1.0, 0.0
JUMPS_S = (-86_400, -600, 600, 86_400)
_ARMED_S = 12.0
_TRIES = 150
_LONGER_S = 1.5  # than a lease
_BASE_IS_SEEN_S = 12.0  # a process starts, and a sweep of every five seconds has its turn
_APP_ROLES = ("steerwise_app", "steerwise_platform")


class Injected(NamedTuple):
    """share: of the work that could not go on while it held, and for `lost_s` after. place: of a failpoint."""

    share: float
    lost_s: float = 0.0
    place: str | None = None


class NotInjected(Exception):
    """There was nothing to do it to just now."""


class Injection(NamedTuple):
    """touches: what no other fault may be at meanwhile. inject: returns once it is over. times: how often it comes for
    once of the others.

    Raises: NotInjected.
    """

    name: str
    touches: str
    inject: Callable[[Plant, random.Random], Injected]
    times: int = 1


# --------------------------------------------------------------------------------------------------------- workers


def _kill_worker(plant: Plant, rng: random.Random) -> Injected:
    _must(plant.signal(rng.choice(plant.parts.workers)))
    return Injected(plant.parts.one_worker, plant.parts.lease_s)


def _kill_pool(plant: Plant, rng: random.Random) -> Injected:
    os.kill(_pool_process(plant, rng), signal.SIGKILL)
    return Injected(plant.parts.one_worker, plant.parts.lease_s)


def _kill_trainer(plant: Plant, rng: random.Random) -> Injected:
    """A loss of its process alone costs the stage an attempt."""
    pools = [
        pid
        for name in plant.parts.gpu_workers
        for pid in process_tree.children_of(plant.nursery.pid(name) or 0)
    ]
    trainers = [child for pool in pools for child in process_tree.children_of(pool)]
    _must(bool(trainers))
    with contextlib.suppress(ProcessLookupError):
        os.kill(rng.choice(sorted(trainers)), signal.SIGKILL)
    return Injected(plant.parts.one_worker, 1.0)


def _stop_worker(plant: Plant, rng: random.Random) -> Injected:
    """It wakes when its jobs are somebody else's."""
    name = rng.choice(plant.parts.gpu_workers)
    pid = plant.nursery.pid(name)
    _must(pid is not None)
    stopped = {pid or 0, *process_tree.descendants(pid or 0)}
    _signal_all(stopped, signal.SIGSTOP)
    try:
        time.sleep(plant.parts.lease_s + _LONGER_S)
    finally:
        _signal_all(stopped, signal.SIGCONT)
    return Injected(plant.parts.one_worker)


def _jump_clock(plant: Plant, rng: random.Random) -> Injected:
    assert plant.clock is not None
    plant.clock.set(rng.choice(JUMPS_S))
    try:
        time.sleep(rng.uniform(2, 5))
    finally:
        plant.clock.set(0)
    return Injected(NOTHING)


def _end_worker(plant: Plant, rng: random.Random) -> Injected:
    """SIGTERM, as at an upgrade: its job is handed back."""
    name = rng.choice(plant.parts.gpu_workers)
    _must(plant.signal(name, signal.SIGTERM))
    return Injected(plant.parts.one_worker, 2.0)


# ----------------------------------------------------------------------------------------------------------- Redis


def _kill_redis(plant: Plant, rng: random.Random, *, forgets: bool = False) -> Injected:
    with plant.held_down("redis"):
        plant.redis.child.kill()
        plant.redis.child.wait()
        if forgets:
            for path in (plant.scratch / "redis").glob("appendonly*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        time.sleep(rng.uniform(0.2, 2))
    return Injected(ALL)


def _flush_redis(plant: Plant, _rng: random.Random) -> Injected:
    import redis

    try:
        with redis.Redis.from_url(plant.redis.url, socket_timeout=2) as client:
            client.flushall()
    except redis.RedisError as error:
        raise NotInjected from error
    return Injected(ALL, 3.0)  # until what is still queued is sent again


# ------------------------------------------------------------------------------------------------------ PostgreSQL


def _stop_postgres(plant: Plant, rng: random.Random) -> Injected:
    assert plant.postgres is not None
    with plant.held_down("postgres"):
        plant.postgres.stop_at_once()
        time.sleep(rng.uniform(0, 2))
    _until_postgres_answers(plant)
    return Injected(ALL)


def _terminate_backend(plant: Plant, rng: random.Random) -> Injected:
    return _on_backend(plant, rng, "SELECT pg_terminate_backend($1)")


def _kill_backend(plant: Plant, rng: random.Random) -> Injected:
    """PostgreSQL then ends every connection, and recovers."""
    asyncio.run(_kill_one(plant, rng))
    _until_postgres_answers(plant)
    return Injected(ALL)


def _limit_connections(plant: Plant, rng: random.Random) -> Injected:
    """Those that are there are ended, and two of each role may come back."""
    statements = [f"ALTER ROLE {role} CONNECTION LIMIT 2" for role in _APP_ROLES]
    statements.append("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = ANY($1)")
    try:
        asyncio.run(_sql(plant, statements, list(_APP_ROLES)))
        time.sleep(rng.uniform(1, 4))
    finally:
        back = [f"ALTER ROLE {role} CONNECTION LIMIT -1" for role in _APP_ROLES]
        _surely(lambda: asyncio.run(_sql(plant, back)))
    return Injected(ALL)


def _on_backend(plant: Plant, rng: random.Random, statement: str) -> Injected:
    pids = asyncio.run(
        _sql(plant, ["SELECT pid FROM pg_stat_activity WHERE usename = ANY($1)"], list(_APP_ROLES))
    )
    _must(bool(pids))
    asyncio.run(_sql(plant, [statement], rng.choice(pids)))
    return Injected(NOTHING)


async def _kill_one(plant: Plant, rng: random.Random) -> None:
    pids = await _sql(plant, ["SELECT pid FROM pg_stat_activity WHERE usename = ANY($1)"], list(_APP_ROLES))
    _must(bool(pids))
    with contextlib.suppress(ProcessLookupError):
        os.kill(rng.choice(pids), signal.SIGKILL)


async def _sql(plant: Plant, statements: list[str], *values: object) -> list[int]:
    """The first column of what the last statement returns; it alone gets the values. Raises: NotInjected."""
    assert plant.addresses.admin is not None
    try:
        connection = await asyncpg.connect(plant.addresses.admin, timeout=5)
        try:
            *before, last = statements
            for statement in before:
                await connection.execute(statement)
            return [row[0] for row in await connection.fetch(last, *values)]
        finally:
            await connection.close(timeout=5)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:  # another fault was faster
        raise NotInjected from error


def _surely(put_right: Callable[[], object]) -> None:
    """What a fault has changed is put right again, however often it takes."""
    for _ in range(_TRIES):
        with contextlib.suppress(NotInjected):
            put_right()
            return
        time.sleep(0.2)
    raise AssertionError("what a fault had changed could not be put right again")


def _until_postgres_answers(plant: Plant) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(NotInjected):
            asyncio.run(_sql(plant, ["SELECT 1"]))
            return
        time.sleep(0.1)


# ---------------------------------------------------------------------------------------------------------- SQLite


def _hold_sqlite(plant: Plant, rng: random.Random) -> Injected:
    """Somebody else's transaction keeps every writer waiting."""
    connection = sqlite3.connect(plant.scratch / "home" / "steerwise.db", timeout=5, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        time.sleep(rng.uniform(1, 4))
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        raise NotInjected from error
    finally:
        connection.close()
    return Injected(ALL)


# ------------------------------------------------------------------------------------------------ storage and disk


def _trouble_store(plant: Plant, rng: random.Random, *, trouble: str) -> Injected:
    assert plant.store is not None
    place = plant.store / object_store.TROUBLE
    place.write_text(trouble)
    try:
        time.sleep(rng.uniform(1, 4))
    finally:
        place.unlink()
    return Injected(ALL)


def _kill_store(plant: Plant, rng: random.Random) -> Injected:
    with plant.held_down("store"):
        _must(plant.signal("store"))
        time.sleep(rng.uniform(0.5, 4))
    return Injected(ALL)


def _move_storage(plant: Plant, rng: random.Random) -> Injected:
    """A folder in the place of the object store: its mount is gone for a while."""
    place = plant.scratch / "home" / "storage"
    gone = place.with_name("storage-gone")
    place.rename(gone)
    try:
        time.sleep(rng.uniform(0.5, 4))
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(place)
        gone.rename(place)
    return Injected(ALL)


def _fill_disk(plant: Plant, rng: random.Random) -> Injected:
    plant.disk.fill()
    try:
        time.sleep(rng.uniform(1, 3))
    finally:
        plant.disk.empty()
    return Injected(ALL)


# -------------------------------------------------------------------------------------------------- model servers


def _kill_model(plant: Plant, rng: random.Random) -> Injected:
    name = rng.choice(plant.parts.models)
    with plant.held_down(name):
        _must(plant.signal(name))
        time.sleep(rng.uniform(0.2, 3))
    return Injected(NOTHING)


def _stop_model(plant: Plant, rng: random.Random) -> Injected:
    name = rng.choice(plant.parts.models)
    _must(plant.signal(name, signal.SIGSTOP))
    try:
        time.sleep(rng.uniform(1, 4))
    finally:
        plant.signal(name, signal.SIGCONT)
    return Injected(NOTHING)


def _break_model(plant: Plant, rng: random.Random) -> Injected:
    place = plant.scratch / rng.choice(plant.parts.models) / model_server.BROKEN
    place.touch()
    try:
        time.sleep(rng.uniform(1, 3))
    finally:
        place.unlink()
    return Injected(NOTHING)


# ----------------------------------------------------------------------------------------- dispatcher, API, version


def _kill_dispatcher(plant: Plant, rng: random.Random) -> Injected:
    with plant.held_down("dispatcher"):
        _must(plant.signal("dispatcher"))
        time.sleep(rng.uniform(0, 2))
    return Injected(ALL)


def _second_dispatcher(plant: Plant, rng: random.Random) -> Injected:
    plant.start_another("dispatcher-2", ["dispatcher"])
    try:
        time.sleep(rng.uniform(3, 6))
    finally:
        plant.signal("dispatcher-2")
    return Injected(NOTHING)


def _kill_api(plant: Plant, rng: random.Random) -> Injected:
    with plant.held_down("api"):
        _must(plant.signal("api"))
        time.sleep(rng.uniform(0, 1))
    return Injected(NOTHING)


def _change_base(plant: Plant, _rng: random.Random) -> Injected:
    """API and dispatcher come back with another one; the models of before must then answer nobody."""
    with plant.otherwise({"STEERWISE_BASE": str(plant.other_base)}, "api", "dispatcher"):
        time.sleep(3)
        plant.other_base_served.set()
        time.sleep(_BASE_IS_SEEN_S - 3)
        plant.other_base_served.clear()
    return Injected(NOTHING)


def _old_version(plant: Plant, rng: random.Random) -> Injected:
    """The database says that it is a version behind, as before a migration."""
    with _version_behind(plant):
        time.sleep(rng.uniform(1, 4))
    return Injected(ALL)


@contextmanager
def _version_behind(plant: Plant) -> Iterator[None]:
    now, before = plant.versions
    _set_version(plant, now, before)
    try:
        yield
    finally:
        _surely(lambda: _set_version(plant, before, now))


def _set_version(plant: Plant, from_: str, to: str) -> None:
    """Raises: NotInjected."""
    if plant.on_postgres:
        statement = "UPDATE alembic_version SET version_num = $1 WHERE version_num = $2 RETURNING 1"
        asyncio.run(_sql(plant, [statement], to, from_))
        return
    path = plant.scratch / "home" / "steerwise.db"
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=10)) as connection, connection:
            connection.execute(
                "UPDATE alembic_version SET version_num = ? WHERE version_num = ?", (to, from_)
            )
    except sqlite3.OperationalError as error:
        raise NotInjected from error


# ------------------------------------------------------------------------------------------------------ failpoints


def _at_failpoint(plant: Plant, rng: random.Random) -> Injected:
    """At one of those that ended fewest processes so far, and are come to often enough."""
    folder, hits = plant.points, plant.point_hits
    place = plant.next_point(rng)
    _must(place is not None)
    assert place is not None
    armed, hit = folder / failpoints.ARMED / place, folder / failpoints.HIT / place
    hit.unlink(missing_ok=True)
    armed.touch()
    deadline = time.monotonic() + _ARMED_S
    while armed.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    try:
        armed.unlink()
    except FileNotFoundError:
        hits[place] += 1
        at_worker = not place.startswith("http.")
        return Injected(
            plant.parts.one_worker if at_worker else NOTHING, plant.parts.lease_s if at_worker else 0.0, place
        )
    raise NotInjected


# --------------------------------------------------------------------------------------------------- which there are


def faults(plant: Plant) -> list[Injection]:
    """Those that can be done here."""
    found = [
        Injection("worker SIGKILL", "workers", _kill_worker),
        Injection("pool process SIGKILL", "workers", _kill_pool),
        Injection("trainer SIGKILL", "workers", _kill_trainer),
        Injection("worker SIGSTOP past its lease", "stopped", _stop_worker),
        Injection("worker SIGTERM", "workers", _end_worker),
        Injection("Redis SIGKILL", "redis", _kill_redis),
        Injection("Redis SIGKILL without persistence", "redis", partial(_kill_redis, forgets=True)),
        Injection("Redis FLUSHALL", "redis", _flush_redis),
        Injection("vLLM SIGKILL", "models", _kill_model),
        Injection("vLLM SIGSTOP", "models", _stop_model),
        Injection("dispatcher SIGKILL", "dispatcher", _kill_dispatcher),
        Injection("two dispatchers", "two", _second_dispatcher),
        Injection("API SIGKILL", "api", _kill_api),
        Injection("base changed", "base", _change_base),
        Injection("old schema version", "database", _old_version),
        Injection("failpoint", "failpoint", _at_failpoint, 6),
        Injection("failpoint", "another failpoint", _at_failpoint, 6),
    ]
    if not plant.real_vllm:
        found.append(Injection("vLLM answers 500", "models", _break_model))
    if plant.on_postgres:
        found += [
            Injection("PostgreSQL immediate stop", "database", _stop_postgres),
            Injection("PostgreSQL backend ended", "database", _terminate_backend),
            Injection("PostgreSQL backend SIGKILL", "database", _kill_backend),
            Injection("PostgreSQL connection limit", "database", _limit_connections),
        ]
    else:
        found.append(Injection("SQLite write lock held", "database", _hold_sqlite))
    if plant.store is not None:
        found += [
            Injection("object store away", "store", _kill_store),
            *(
                Injection(f"object store {name}", "store", partial(_trouble_store, trouble=trouble))
                for name, trouble in object_store.TROUBLES.items()
            ),
        ]
    else:
        found.append(Injection("storage folder away", "store", _move_storage))
    if plant.clock is not None:
        found.append(Injection("clock jump of a worker", "clock", _jump_clock))
    if plant.disk.problem is None:
        found.append(Injection("disk full", "disk", _fill_disk))
    return found


def not_injected_here(plant: Plant) -> dict[str, str]:
    """What cannot be done here, and why."""
    found = {}
    if plant.disk.problem is not None:
        found["disk full"] = plant.disk.problem
    if "clock" in plant.missing:
        found["clock jump of a worker"] = plant.missing["clock"]
    if "store" in plant.missing:
        found["object store slow, refusing, losing a write"] = plant.missing["store"]
    if plant.real_vllm:
        found["vLLM answers 500"] = "vLLM is the real one"
    if "vllm" in plant.missing:
        found["the real vLLM"] = plant.missing["vllm"]
    if not plant.on_postgres:
        found["PostgreSQL stop, backends, connection limit"] = "the database is SQLite"
    return found


def schedule(known: list[Injection], rng: random.Random) -> Iterator[Injection]:
    """Without end: each as often as another, `times` apart, in an order that the seed decides."""
    while True:
        block = [fault for fault in known for _ in range(fault.times)]
        rng.shuffle(block)
        yield from block


def _pool_process(plant: Plant, rng: random.Random) -> int:
    pools = [
        pid for name in plant.parts.workers for pid in process_tree.children_of(plant.nursery.pid(name) or 0)
    ]
    _must(bool(pools))
    return rng.choice(sorted(pools))


def _signal_all(pids: set[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _must(holds: bool) -> None:
    if not holds:
        raise NotInjected
