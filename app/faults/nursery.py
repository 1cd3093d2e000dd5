"""Our side of `app.faults.roles`: asks for processes, and knows which of them have ended."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from app.errors import AppError
from app.infra.processes import log_tail

_START_TIMEOUT_S = 600  # it imports the whole product first, on a machine that may have much else to do


class NurseryEnded(AppError):
    """What starts the processes of a fault run has ended; details: the end of its log."""

    code = "fault_run_broken"


class Nursery:
    def __init__(self, log: Path, environment: Mapping[str, str]):
        self.log = log
        self._pids: dict[str, int] = {}
        self._ended: set[int] = set()
        self._changed = threading.Condition()
        self._ready = self._closed = False
        with log.open("ab") as sink:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "app.faults.roles"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
                env=dict(environment),
                start_new_session=True,  # Ctrl-C is for us; we end it
            )
        assert self._child.stdin is not None and self._child.stdout is not None
        self._stdin: IO[bytes] = self._child.stdin
        self._reader = threading.Thread(target=self._read, args=(self._child.stdout,), daemon=True)
        self._reader.start()
        self._wait(lambda: self._ready)

    def start(self, name: str, role: Sequence[str], environment: Mapping[str, str], log: Path) -> int:
        """Returns the id of the process, and of its group."""
        asked = {"name": name, "role": list(role), "environment": dict(environment), "log": str(log)}
        with self._changed:
            self._pids.pop(name, None)
            self._stdin.write(json.dumps(asked).encode() + b"\n")
            self._stdin.flush()
        self._wait(lambda: name in self._pids)
        return self._pids[name]

    def pid(self, name: str) -> int | None:
        """None where it does not run."""
        with self._changed:
            pid = self._pids.get(name)
            return None if pid is None or pid in self._ended else pid

    def close(self) -> None:
        """All of them end."""
        self._stdin.close()
        try:
            self._child.wait(20)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def _wait(self, holds: Callable[[], bool]) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: holds() or self._closed, _START_TIMEOUT_S) or self._closed:
                raise NurseryEnded("the processes of the fault run do not start", log_tail(self.log))

    def _read(self, lines: IO[bytes]) -> None:
        for line in lines:
            told = json.loads(line)
            with self._changed:
                if "ready" in told:
                    self._ready = True
                elif "started" in told:
                    self._pids[told["name"]] = told["started"]
                else:
                    self._ended.add(told["ended"])
                self._changed.notify_all()
        with self._changed:
            self._closed = True
            self._changed.notify_all()
