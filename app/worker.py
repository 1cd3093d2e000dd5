"""The worker's and the dispatcher's processes. Celery carries an id from one to the other, and nothing else.

A message is acknowledged before the job runs. A late acknowledgement would not make the job safer, as its row already
does, and Redis would hand the message of a long job to a second worker.
"""

import asyncio
import mmap
import signal
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import UUID

import celery
import kombu
import structlog
from celery import signals
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

import app.infra.logging
from app.errors import InputError
from app.infra import failpoints, metrics
from app.infra.db.engine import Database, open_database
from app.infra.db.isolation import check_isolation
from app.infra.db.version import check_version, until_it_fits
from app.infra.machine import Machine, as_json, libraries, machine
from app.infra.tables.processes import ProcessKind
from app.jobs import runner
from app.jobs.background import load_handlers
from app.jobs.dispatcher import BrokerAway, Dispatcher, Notifier
from app.jobs.handlers import Queue
from app.jobs.runner import WorkerRoom
from app.operations import presence
from app.serving.base import SHIPPED, find_base
from app.settings import Settings

log = structlog.get_logger()
TASK = "run_job"
VISIBILITY_TIMEOUT_S = 86_400  # Redis shows an unacknowledged message again; we acknowledge at once
_CONNECT_TIMEOUT_S = 1
_SOCKET_TIMEOUT_S = 2
_NO_SLOT = (
    "nvidia-smi names no GPU here, so another worker on the same one may train at the same time; "
    "STEERWISE_GPU_SLOT gives both one name"
)


def make_celery(settings: Settings) -> Any:
    """Raises: InputError where no Redis is named."""
    made = celery.Celery("steerwise", broker=broker_url(settings), set_as_current=False)
    made.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        result_backend=None,
        task_acks_late=False,
        task_reject_on_worker_lost=False,
        # Each with an exchange of its own: by default all share the first one's, and get each other's messages.
        task_queues=[
            kombu.Queue(queue.value, kombu.Exchange(queue.value), routing_key=queue.value) for queue in Queue
        ],
        task_default_queue=Queue.cpu.value,
        task_create_missing_queues=False,
        task_publish_retry=False,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_pool_start_method="fork",  # the task exists in this process only
        worker_proc_alive_timeout=60,  # the default, 4 s, is short for a machine that is training
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "visibility_timeout": VISIBILITY_TIMEOUT_S,
            # Who publishes learns at once that Redis is away, and tries again by itself.
            "max_retries": 0,
            "interval_start": 0,
            "interval_step": 0,
            "interval_max": 0,
            "socket_connect_timeout": _CONNECT_TIMEOUT_S,
            "socket_timeout": _SOCKET_TIMEOUT_S,
        },
    )
    return made


def broker_url(settings: Settings) -> str:
    """STEERWISE_REDIS_URL as Celery reads it: it calls a Unix socket by another name than redis-py does."""
    if settings.redis_url is None:
        raise InputError("set STEERWISE_REDIS_URL to a Redis, or use `steerwise serve`, which starts one")
    if settings.redis_url.startswith("unix://"):
        return "redis+socket://" + settings.redis_url.removeprefix("unix://")
    return settings.redis_url


# ------------------------------------------------------------------------------------------------------------ worker


def run_worker(settings: Settings, queues: Sequence[Queue], concurrency: int = 1) -> int:
    """Until SIGTERM or SIGINT: then running jobs are handed back, and another worker goes on with them."""
    app.infra.logging.configure(settings.log_level)
    made = make_celery(settings)
    asyncio.run(_wait(settings))
    if Queue.gpu in queues and settings.base == SHIPPED:
        # Here is torch to build it with; whoever serves it or counts its tokens finds it below the same home.
        find_base(settings.base, settings.home)
    load_handlers()
    here = machine(on_gpu=settings.on_gpu)
    room = _room(settings, here)
    if Queue.gpu in queues:
        _warn_without_slot(settings, room)
    # One byte that the pool's processes share with their parent: whether the worker is shutting down.
    ending = mmap.mmap(-1, 1)
    made.task(name=TASK)(_task(settings, room, ending))
    signals.setup_logging.connect(lambda **_: app.infra.logging.configure(settings.log_level), weak=False)
    signals.worker_shutting_down.connect(lambda **_: ending.__setitem__(0, 1), weak=False)
    names = ",".join(queue.value for queue in queues)
    argv = ["--quiet", "worker", "--queues", names, "--concurrency", str(concurrency), "--pool", "prefork"]
    me = presence.announcement(
        ProcessKind.worker,
        queues=[queue.value for queue in queues],
        concurrency=concurrency,
        room_bytes=room.memory_bytes,
        slot=room.slot,
        libraries=libraries(),
        **as_json(here),
    )
    living = ExitStack()
    # Once its pool is there: what the pool's processes are forked from has no thread of ours yet.
    signals.worker_ready.connect(
        lambda **_: living.enter_context(presence.announced(settings, me)), weak=False
    )
    argv += ["--hostname", f"{names}@%h", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    with living:
        return int(made.worker_main(argv) or 0)


def _room(settings: Settings, here: Machine) -> WorkerRoom:
    told = settings.worker_memory_gib
    return WorkerRoom(
        here.room_bytes if told is None else int(told * (1 << 30)), settings.gpu_slot or here.slot
    )


def _warn_without_slot(settings: Settings, room: WorkerRoom) -> None:
    if settings.on_gpu and room.slot is None:
        log.warning("gpu_without_slot", told=_NO_SLOT)


async def _wait(settings: Settings) -> None:
    database = open_database(settings.database_url, settings.platform_database_url)
    try:
        await until_it_fits(database, _look)
    finally:
        await database.close()


async def _look(database: Database) -> None:
    await check_isolation(database)
    await check_version(database)


def _task(settings: Settings, room: WorkerRoom, ending: mmap.mmap) -> Callable[[str], None]:
    def run(job_id: str) -> None:
        runner.run_job(UUID(job_id), settings, lambda: ending[0] != 0, room)

    return run


# -------------------------------------------------------------------------------------------------------- dispatcher


def run_dispatcher(settings: Settings) -> None:
    """Until SIGTERM or SIGINT."""
    load_handlers()  # a job that is given up ends here
    app.infra.logging.configure(settings.log_level)
    if settings.metrics_port is not None:
        metrics.expose(settings.host, settings.metrics_port)
    asyncio.run(_dispatch(settings))


async def _dispatch(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    database = open_database(settings.database_url, settings.platform_database_url)
    try:
        await _or_stop(until_it_fits(database, _look), stop)
        if stop.is_set():
            return
        me = presence.announcement(ProcessKind.dispatcher)
        await _together(
            presence.keep(database, me), Dispatcher(database, notifier(settings), settings).run(stop)
        )
    finally:
        await database.close()


async def _together(other: Coroutine[Any, Any, None], work: Coroutine[Any, Any, None]) -> None:
    """Until `work` has ended; what becomes of the other is no matter of it."""
    task = asyncio.create_task(other)
    try:
        await work
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _or_stop(work: Coroutine[Any, Any, None], stop: asyncio.Event) -> None:
    """What `work` raises; ends it where `stop` is set first."""
    tasks = [asyncio.create_task(work), asyncio.create_task(stop.wait())]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome


def notifier(settings: Settings) -> Notifier:
    made = make_celery(settings)

    def ring(queue: Queue, job_id: UUID) -> None:
        failpoints.reached("dispatcher.before_message")
        with _redis_away_as_ours():
            made.send_task(TASK, [str(job_id)], queue=queue.value)
        failpoints.reached("dispatcher.after_message")

    def depth(queue: Queue) -> int:
        with _redis_away_as_ours(), made.connection_for_write() as connection:
            # A passive declaration would do, but calls an empty queue one that does not exist.
            return int(connection.default_channel._size(queue.value))

    return Notifier(ring, depth)


@contextmanager
def _redis_away_as_ours() -> Iterator[None]:
    try:
        yield
    except (KombuError, RedisError, OSError) as error:
        raise BrokerAway(str(error)) from error
