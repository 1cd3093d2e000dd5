"""Handlers that end in every way a handler can end, and a worker and a dispatcher that know them: real processes.

A job's payload says what to do. `started`: a file that gets a line for each attempt, its epoch. `go_on`: a file to
wait for.
"""

import asyncio
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

from app.errors import InputError, ServingError
from app.http import server
from app.infra.db.engine import open_database
from app.infra.db.session import transaction
from app.infra.tables.jobs import JobKind
from app.jobs import handlers
from app.jobs.background import load_handlers
from app.jobs.context import JobContext
from app.jobs.ends import ON_END, JobOutcome
from app.jobs.handlers import Queue, register
from app.runs.supervisor import StageStopped, supervise
from app.settings import load_settings
from app.worker import run_dispatcher, run_worker

LIMIT_S = 120


async def wait_for_file(context: JobContext) -> JobOutcome:
    """Cancelled at its await."""
    note_start(context)
    context.progress(1, 3, "waiting")
    context.event({"event": "metric", "step": 1})
    deadline = time.monotonic() + LIMIT_S
    while not Path(context.job.payload["go_on"]).exists() and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    context.event({"event": "metric", "step": 2})
    context.log.write_text("waited\n")
    (context.workdir / "made").write_text("something")
    return JobOutcome({"epoch": context.job.epoch})


async def block(context: JobContext) -> JobOutcome:
    """Never lets its event loop turn."""
    time.sleep(context.job.payload["block_s"])
    return JobOutcome()


async def supervise_child(context: JobContext) -> JobOutcome:
    """As a training stage: a process of its own, in a thread of ours."""
    note_start(context)
    argv = [sys.executable, "-c", f"import time; print('training', flush=True); time.sleep({LIMIT_S})"]
    try:
        await context.in_thread(supervise, argv, context.workdir, context.settings, print, context.cancelled)
    except StageStopped as error:
        raise AssertionError("the coroutine was not cancelled") from error
    return JobOutcome()


async def refuse(context: JobContext) -> JobOutcome:
    raise InputError("row 3 has no text", ["line 3: empty"])


async def miss(context: JobContext) -> JobOutcome:
    raise ServingError("vLLM does not answer")


async def query(context: JobContext) -> JobOutcome:
    """In a database that is not there."""
    database = open_database(f"sqlite:///{context.workdir}/nowhere/steerwise.db")
    async with transaction(database) as session:
        await session.connection()
    return JobOutcome()


async def break_down(context: JobContext) -> JobOutcome:
    raise KeyError("a customer's words")


def note_start(context: JobContext) -> None:
    with Path(context.job.payload["started"]).open("a") as file:
        file.write(f"{context.job.epoch} {os.getpid()}\n")


HANDLERS = {
    JobKind.deploy: wait_for_file,
    JobKind.gate: supervise_child,
    JobKind.validate_dataset: refuse,
    JobKind.traces: break_down,
    JobKind.sft: block,
    JobKind.distill: query,
    JobKind.rl: miss,
}


def register_all() -> None:
    for kind, handler in HANDLERS.items():
        register(kind, handler)


if __name__ == "__main__":
    load_handlers()  # once: what the slices register must not take the place of ours later
    for registry in (handlers.HANDLERS, ON_END, handlers.SWEEPS):
        registry.clear()
    register_all()
    with suppress(KeyboardInterrupt):
        match sys.argv[1]:
            case "dispatcher":
                run_dispatcher(load_settings())
            case "api":
                server.run(load_settings())
            case _:
                sys.exit(run_worker(load_settings(), [Queue(name) for name in sys.argv[2:]]))
