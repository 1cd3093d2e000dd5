"""The base that ships, below the home: built by the first command that needs it, once, in seconds.

Every other command that comes meanwhile waits for it. What it is built from is installed, so no network is needed.
"""

import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import app
from app.errors import InputError
from app.infra import locks
from training.base import package


def folder(home: Path, told: Callable[[str], None]) -> Path:
    """told: what is being done, where it is not built yet. Raises: InputError."""
    try:
        identity = package.identity()
        built = home / "bases" / f"{package.NAME}-{identity[:12]}"
        if package.identity_of(built) == identity:
            return built
        package.weights_file()
        with _alone(home / "bases", told):
            if package.identity_of(built) != identity:
                told(f"building the base {package.NAME} in {built}, once")
                _build(built, told)
    except package.PackageMissing as error:
        raise InputError(str(error)) from None
    except OSError as error:
        raise InputError(f"the base cannot be kept below {home}: {error.strerror}") from None
    return built


@contextmanager
def _alone(folder: Path, told: Callable[[str], None]) -> Iterator[None]:
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    with (folder / "lock").open("a") as lock:
        if not locks.take(lock):
            told("waiting for another command that builds the base")
            locks.take_within(lock, math.inf)
        yield


def _build(folder: Path, told: Callable[[str], None]) -> None:
    """In a process of its own: it needs torch, which nothing here does. Raises: InputError."""
    root = str(Path(next(iter(app.__path__))).parent)
    paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    argv = [sys.executable, "-m", "training.base.build", "--out", str(folder)]
    with tempfile.TemporaryFile("w+") as complaints:  # a pipe that nobody reads would stop it
        child = subprocess.Popen(
            argv,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            env={**os.environ, "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1"},
        )
        assert child.stdout is not None
        for line in child.stdout:
            told(line.rstrip("\n"))
        ended = child.wait()
        complaints.seek(0)
        complaint = complaints.read()
    if ended == 0:
        return
    if "No module named" in complaint:
        raise InputError(
            f"the base {package.NAME} is not built yet, and this installation has no torch to build it with; start it "
            "where the models run first, with the same STEERWISE_HOME, or set STEERWISE_BASE to a folder"
        )
    raise InputError(f"the base {package.NAME} could not be built", complaint.strip().split("\n")[-3:])
