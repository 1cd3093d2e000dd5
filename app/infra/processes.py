"""Child processes that never outlive us: a process group each, ended as a whole.

PDEATHSIG makes the kernel end the child even where we are killed with SIGKILL and cannot tidy up. SIGTERM is its
signal rather than SIGKILL, so that a leader with children of its own (vLLM and its engine) still ends them.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def spawn(
    argv: Sequence[str], log: Path, env: Mapping[str, str], keep: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Output goes to the end of `log`. keep: file descriptors that the child shares with us.

    Call from a thread that outlives the child: PDEATHSIG follows the thread that spawned.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    parent = os.getpid()

    def die_with_parent() -> None:
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:  # it died between fork and prctl
                os._exit(1)

    with log.open("ab") as sink:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=dict(env),
            start_new_session=True,
            pass_fds=tuple(keep),
            preexec_fn=die_with_parent,
        )


def stop(child: subprocess.Popen[bytes], timeout_s: float) -> None:
    """SIGTERM to the group, SIGKILL to what is left of it after `timeout_s`. Harmless on a child that has ended."""
    signal_group(child, signal.SIGTERM)
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and (child.poll() is None or _group_alive(child)):
        time.sleep(0.05)
    signal_group(child, signal.SIGKILL)
    child.wait()


def signal_group(child: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)


def _group_alive(child: subprocess.Popen[bytes]) -> bool:
    """Members other than the leader count: vLLM's engine may take longer to end than its server."""
    try:
        os.killpg(child.pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def how_it_ended(returncode: int) -> str:
    if returncode >= 0:
        return f"exit code {returncode}"
    name = signal.Signals(-returncode).name if -returncode in set(signal.Signals) else str(-returncode)
    hint = "; the machine probably ran out of memory" if name == "SIGKILL" else ""
    return f"signal {name}{hint}"


def log_tail(log: Path, lines: int = 15, max_bytes: int = 65536) -> list[str]:
    if not log.is_file():
        return []
    with log.open("rb") as source:
        source.seek(max(0, log.stat().st_size - max_bytes))
        text = source.read().decode(errors="replace")
    return [line for line in text.split("\n") if line.strip()][-lines:]
