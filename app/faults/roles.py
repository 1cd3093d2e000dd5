"""The processes of a fault run, forked from one that has imported the product once: a start then costs little.

`python -m app.faults.roles` reads what to start as JSON lines and says what has ended, until its input ends; then it
ends all of them. Each process is what the command of the same name would be.
"""

import contextlib
import ctypes
import importlib
import importlib.util
import json
import os
import select
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import app.main
import app.worker
from app.faults import model_server, object_store, quick
from app.http import server
from app.infra.db.version import known_versions
from app.infra.private import keep_files_private
from app.jobs.background import load_handlers
from app.jobs.handlers import Queue
from app.serving.base import STARTER, digest, find_base, tried
from app.settings import load_settings

_PR_SET_PDEATHSIG = 1
_LOOK_EVERY_S = 0.05


def main() -> None:
    _warm()
    tell({"ready": os.getpid()})
    mine: set[int] = set()
    buffer = b""
    while True:
        readable, _, _ = select.select([0], [], [], _LOOK_EVERY_S)
        if readable:
            block = os.read(0, 1 << 16)
            if not block:
                break
            *lines, buffer = (buffer + block).split(b"\n")
            for line in lines:
                mine.add(_start(json.loads(line)))
        _reap(mine)
    for pid in mine:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def _warm() -> None:
    """What each process would read or import by itself, once for all of them."""
    if importlib.util.find_spec("s3fs") is not None:
        importlib.import_module("s3fs")
    load_handlers()
    base = find_base(STARTER)
    digest(base)
    tried(base.folder)
    known_versions()


def _reap(mine: set[int]) -> None:
    while mine:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        mine.discard(pid)
        tell({"ended": pid, "status": os.waitstatus_to_exitcode(status)})


def _start(asked: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        tell({"started": pid, "name": asked["name"]})
        return pid
    code = 1
    try:
        _become(asked)
        code = _play(asked["role"])
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except Exception:  # noqa: BLE001 (the end of a process, which says why)
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _become(asked: dict[str, Any]) -> None:
    os.setsid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.environ.clear()
    os.environ.update(asked["environment"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "LD_PRELOAD" in os.environ:  # which only a program that is started anew heeds
        os.execve(sys.executable, [sys.executable, "-m", __spec__.name, *asked["role"]], os.environ)


def _play(role: list[str]) -> int:
    keep_files_private()
    match role:
        case ["quick-worker" | "worker" as kind, *queues]:
            if kind == "quick-worker":
                quick.install()
            return app.worker.run_worker(load_settings(), [Queue(name) for name in queues])
        case ["dispatcher"]:
            app.worker.run_dispatcher(load_settings())
        case ["api"]:
            server.run(load_settings())
        case ["model", port, folder]:
            model_server.run(int(port), Path(folder))
        case ["vllm", port, home]:
            argv = [sys.executable, "-m", "app.cli.program", "vllm", "--port", port]
            os.execve(argv[0], argv, os.environ | {"STEERWISE_HOME": home})
        case ["store", port, folder]:
            object_store.run(int(port), Path(folder))
        case _:
            raise ValueError(f"there is no role {role}")
    return 0


def tell(what: dict[str, Any]) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


if __name__ == "__main__":
    if sys.argv[1:]:
        sys.exit(_play(sys.argv[1:]))
    main()
