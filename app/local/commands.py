"""`steerwise serve`, and its parts as commands of their own for where they are services of their own."""

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from app.cli.endings import session
from app.cli.terminal import Terminal
from app.errors import InputError
from app.infra.private import keep_files_private, private_home
from app.settings import Settings
from evaluation.terminal import say

if TYPE_CHECKING:
    from app.jobs.handlers import Queue  # takes a while, and most commands here do not need it

PANEL = "The product: on this machine"
commands = typer.Typer()
Host = Annotated[str | None, typer.Option(help="Address of the API. (default: STEERWISE_HOST or 127.0.0.1)")]
Port = Annotated[int | None, typer.Option(help="(default: STEERWISE_PORT or 8000)", min=1, max=65535)]


@commands.command(rich_help_panel=PANEL)
def serve(
    home: Annotated[
        Path | None,
        typer.Option(help="Where everything is kept. (default: STEERWISE_HOME or ~/.steerwise)"),
    ] = None,
    host: Host = None,
    port: Port = None,
    no_vllm: Annotated[bool, typer.Option("--no-vllm", help="Start no model server.")] = False,
) -> None:
    """Start the whole product on this machine, and say when it is ready and where.

    Nothing but this package is needed: a SQLite database, Redis, the API, workers, the dispatcher and vLLM with the
    base that ships. STEERWISE_DATABASE_URL, STEERWISE_REDIS_URL, STEERWISE_STORAGE_URL and STEERWISE_VLLM_URLS name
    servers that run already, to use instead. What ends is started again; Ctrl-C ends all of it."""
    from app.local import product

    with session() as (settings, _progress):
        keep_files_private()
        here = _changed(settings, home, host, port)
        product.run(product.plan(here, _tell, with_vllm=not no_vllm), _tell)


@commands.command(rich_help_panel=PANEL)
def migrate(
    app_role: Annotated[
        str | None,
        typer.Option(
            help="On PostgreSQL: the role of the other processes' STEERWISE_DATABASE_URL; it is granted what they need."
        ),
    ] = None,
    platform_role: Annotated[
        str | None,
        typer.Option(
            help="On PostgreSQL: the role of their STEERWISE_PLATFORM_DATABASE_URL, which alone sees every tenant."
        ),
    ] = None,
) -> None:
    """Bring the database of STEERWISE_DATABASE_URL to the version that this code expects. Safe to repeat."""
    from app.infra.db import migrate
    from app.infra.outage import said_plainly

    with session() as (settings, _progress):
        keep_files_private()
        private_home(settings.home)
        with said_plainly():
            migrate.upgrade(settings.database_url, app_role=app_role, platform_role=platform_role)
    _tell("database", "up to date")


@commands.command(rich_help_panel=PANEL)
def backup(
    out: Annotated[Path, typer.Option(help="A folder that is not there yet.")],
    files: Annotated[
        bool, typer.Option("--files/--no-files", help="Copy the files too, or only name and measure them.")
    ] = True,
) -> None:
    """Write all that the installation knows into a folder: rows, and the files that they name. It may run meanwhile."""
    import asyncio
    from functools import partial

    from app.infra.outage import said_plainly
    from app.operations import backup as backups

    with session() as (settings, _progress), said_plainly():
        keep_files_private()
        asyncio.run(backups.back_up(settings, out, partial(_tell, "backup"), with_files=files))
    _tell("backup", f"whole, in {out}")


@commands.command(rich_help_panel=PANEL)
def restore(
    source: Annotated[Path, typer.Argument(help="A folder that `steerwise backup` has made.")],
) -> None:
    """Fill an empty installation from a backup: a migrated database without a tenant, and a storage.

    On SQLite the database is made. Start the other processes afterwards."""
    import asyncio
    from functools import partial

    from app.infra.db import migrate
    from app.infra.db.engine import parse_url
    from app.infra.outage import said_plainly
    from app.operations import backup as backups

    with session() as (settings, _progress), said_plainly():
        keep_files_private()
        backups.read(source)
        if parse_url(settings.database_url).get_backend_name() == "sqlite":
            private_home(settings.home)
            migrate.upgrade(settings.database_url)
        asyncio.run(backups.restore(settings, source, partial(_tell, "restore")))
    _tell("restore", "whole")


@commands.command(rich_help_panel=PANEL)
def api(host: Host = None, port: Port = None) -> None:
    """The API alone. It needs a database that is migrated."""
    from app.http import server

    with session() as (given, _progress):
        keep_files_private()
        settings = _changed(given, None, host, port)
    server.run(settings)


@commands.command(rich_help_panel=PANEL)
def worker(
    queues: Annotated[
        str, typer.Option(help="gpu: training and gates; cpu: everything else.", metavar="cpu|gpu|cpu,gpu")
    ] = "cpu,gpu",
    concurrency: Annotated[int, typer.Option(help="Jobs at a time.", min=1)] = 1,
    ready_file: Annotated[
        Path | None, typer.Option(help="Made when it listens, and removed when it ends.")
    ] = None,
) -> None:
    """Do the jobs of one queue or both. They are handed back on SIGTERM, and another worker goes on with them."""
    from celery import signals

    from app.worker import run_worker

    with session() as (settings, _progress):
        keep_files_private()
        private_home(settings.home)
        if ready_file is not None:
            ready_file.unlink(missing_ok=True)
            signals.worker_ready.connect(lambda **_: ready_file.touch(), weak=False)
        try:
            code = run_worker(settings, _queues(queues), concurrency)
        finally:
            if ready_file is not None:
                ready_file.unlink(missing_ok=True)
    raise typer.Exit(code)


@commands.command(rich_help_panel=PANEL)
def dispatcher() -> None:
    """Tell the workers about jobs, requeue those that were lost, keep deployments as they should be."""
    from app.worker import run_dispatcher

    with session() as (settings, _progress):
        keep_files_private()
        run_dispatcher(settings)


@commands.command(rich_help_panel=PANEL)
def base() -> None:
    """Build the base that ships below STEERWISE_HOME, for processes without torch that have it too; nothing where it
    is there already, or STEERWISE_BASE names another."""
    from app.serving.base import find_base, tried

    with session() as (settings, progress):
        keep_files_private()
        private_home(settings.home)
        folder = find_base(settings.base, settings.home, progress.note).folder
        tried(folder)
    say(str(folder))


@commands.command(rich_help_panel=PANEL)
def vllm(
    host: Annotated[str, typer.Option(help="Only trusted processes may reach it.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8100,
) -> None:
    """A model server with the base model, as the product needs it: a replica for STEERWISE_VLLM_URLS."""
    from app.serving import vllm as replica
    from app.serving.base import find_base, tried

    with session() as (settings, progress):
        folder = find_base(settings.base, settings.home, progress.note).folder
        tried(folder)
        argv = replica.command(folder, replica.VllmEndpoint(f"http://{host}:{port}"), settings)
        environment = replica.environment(settings)
    for number in (signal.SIGTERM, signal.SIGHUP):  # what Python ignores or handles would stay so
        signal.signal(number, signal.SIG_DFL)
    os.execve(argv[0], argv, environment)


def _changed(settings: Settings, home: Path | None, host: str | None, port: int | None) -> Settings:
    """The options win over the environment, and what depends on them is worked out anew."""
    given = {"home": home, "host": host, "port": port}
    asked = {name: value for name, value in given.items() if value is not None}
    return Settings.model_validate(asked) if asked else settings


def _queues(names: str) -> "list[Queue]":
    """Raises: InputError."""
    from app.jobs.handlers import Queue

    try:
        return [Queue(name.strip()) for name in names.split(",")]
    except ValueError:
        raise InputError(f"--queues {names}: write cpu, gpu, or cpu,gpu") from None


def _tell(name: str, what: str) -> None:
    Terminal().print(f"[bold]{escape(name):<12}[/bold] {escape(what)}")
