"""The Redis of the embedded default: a child of ours on a Unix socket. It holds nothing that the rows do not."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import quote

import redis
from redis.exceptions import RedisError

from app.infra import locks
from app.infra.processes import how_it_ended, log_tail, spawn, stop
from app.local.redis_program import RedisFailed, RedisProgram, find
from app.settings import Settings

START_TIMEOUT_S = 30  # it reads its append-only file first
_PING_TIMEOUT_S = 2
_STOP_TIMEOUT_S = 10
_LOCK_TIMEOUT_S = 5  # one that lost its parent a moment ago is still writing
_POLL_S = 0.05
_MAX_MEMORY = "256mb"
_MAX_SOCKET_PATH = 100  # bytes; the kernel takes 107


class RedisServer:
    """url: as redis-py reads it, and as `STEERWISE_REDIS_URL` takes it."""

    def __init__(self, program: RedisProgram, folder: Path, socket: Path, lock: int):
        self.program = program
        self.url = f"unix://{quote(str(socket))}"
        self.log = folder / "redis.log"
        # Nothing of ours is in its environment: it needs no secret.
        self._start = partial(spawn, _command(program.path, folder, socket), self.log, {}, keep=[lock])
        self.child = self._start()

    def healthy(self) -> bool:
        """False too while it still reads its file."""
        if self.child.poll() is not None:
            return False
        client = redis.Redis.from_url(self.url, socket_timeout=_PING_TIMEOUT_S)
        try:
            return bool(client.ping())
        except (RedisError, OSError):
            return False
        finally:
            client.close()

    def revive(self) -> bool:
        """Start it again where it has ended, at the same URL and with what it had written; whether it had ended."""
        if self.child.poll() is None:
            return False
        stop(self.child, 0)
        self.child = self._start()
        return True


@contextmanager
def embedded_redis(folder: Path, settings: Settings) -> Iterator[RedisServer]:
    """folder: keeps its append-only file and its log; made with mode 0700, and used by one server at a time.

    Raises: RedisFailed. Call from the main thread.
    """
    program = find(settings)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    with _locked(folder) as lock, _socket_folder(settings) as sockets:
        server = RedisServer(program, folder, sockets / "redis.sock", lock)
        try:
            _wait_until_healthy(server)
            yield server
        finally:
            stop(server.child, _STOP_TIMEOUT_S)


def _command(binary: Path, folder: Path, path: Path) -> list[str]:
    options = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "dir": str(folder.resolve()),
        "daemonize": "no",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        # A queue from which the server may drop what it likes is none.
        "maxmemory": _MAX_MEMORY,
        "maxmemory-policy": "noeviction",
    }
    return [str(binary), *(part for name, value in options.items() for part in (f"--{name}", value))]


@contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """Redis shares the lock: where we were killed, the folder is free only when Redis has ended too."""
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not locks.take_within(lock, _LOCK_TIMEOUT_S):
            raise RedisFailed(f"another process has started Redis in {folder}; stop it first")
        yield lock
    finally:
        os.close(lock)


@contextmanager
def _socket_folder(settings: Settings) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="steerwise-redis-", dir=settings.socket_dir))  # mode 0700
    try:
        if len(os.fsencode(folder / "redis.sock")) > _MAX_SOCKET_PATH:
            raise RedisFailed(
                f"the path {folder} is too long for a Unix socket; set STEERWISE_SOCKET_DIR to a shorter one"
            )
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_healthy(server: RedisServer) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not server.healthy():
        if server.child.poll() is not None:
            ending = how_it_ended(server.child.returncode)
            raise RedisFailed(f"Redis did not start ({ending}); its log: {server.log}", log_tail(server.log))
        if time.monotonic() > deadline:
            raise RedisFailed(
                f"Redis was not ready after {START_TIMEOUT_S} s; its log: {server.log}", log_tail(server.log)
            )
        time.sleep(_POLL_S)
