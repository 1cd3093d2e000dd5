"""A `steerwise serve` of our own, in its own folder and on a free port, ended when we end."""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from app.cli.client.profile import Target
from app.cli.console import Progress
from app.errors import AppError, InputError
from app.infra.processes import how_it_ended, log_tail, spawn, stop
from app.local import recipes
from app.settings import Settings

KEY = "demo.key"  # in the folder
# A demo touches nobody's servers: it has the embedded default, whatever the environment says.
_SERVERS = ("DATABASE_URL", "REDIS_URL", "STORAGE_URL", "VLLM_URLS")
# Slots are as wide as the preset's adapters: on a CPU the cost of serving one grows with the slot that it stands in.
_SMALL = {"STEERWISE_VLLM_MAX_LORA_RANK": "8"}
_STOP_TIMEOUT_S = 90  # for all its parts, one after the other
_LOOK_EVERY_S = 0.2


class NotServing(AppError):
    """The product did not start; details: the end of its log."""

    code = "not_serving"


@contextmanager
def running(home: Path, settings: Settings, progress: Progress) -> Iterator[Target]:
    """Where it is, with the key of an admin of the platform. Its lines are shown while it starts.

    Raises: InputError, NotServing.
    """
    here = settings.model_copy(
        update={"home": home.absolute(), "host": "127.0.0.1", "port": recipes.free_port()}
    )
    environment = _environment(here)
    key = _key(home, environment)
    log = home / "logs" / "serve.log"
    begins = log.stat().st_size if log.is_file() else 0
    child = spawn(_command("serve"), log, environment)
    try:
        _until_ready(child, log, begins, progress)
        yield Target(recipes.url_here(here), key, None)
    finally:
        progress.note("stopping everything that was started")
        stop(child, _STOP_TIMEOUT_S)


def _environment(here: Settings) -> Mapping[str, str]:
    taken = {f"STEERWISE_{name}" for name in _SERVERS}
    return {name: value for name, value in recipes.environment(here).items() if name not in taken} | _SMALL


def _key(home: Path, environment: Mapping[str, str]) -> str:
    """Kept beside what it opens, for the next time. Raises: InputError."""
    file = home / KEY
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not file.is_file():
            made = subprocess.run(
                _command("admin", "bootstrap", "--new"), env=environment, capture_output=True, text=True
            )
            if made.returncode != 0:
                raise InputError(f"{home} cannot be used", made.stderr.rstrip().split("\n"))
            file.touch(mode=0o600)
            file.write_text(made.stdout)
        return file.read_text().strip()
    except OSError as error:
        raise InputError(f"{home} cannot be used: {error.strerror}") from None


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "app.cli.program", *words]


def _until_ready(child: subprocess.Popen[bytes], log: Path, begins: int, progress: Progress) -> None:
    """Raises: NotServing."""
    with log.open(encoding="utf-8", errors="replace") as lines:
        lines.seek(begins)
        line = ""
        while True:
            ended = child.poll()
            line += lines.readline()
            if line.endswith("\n"):
                if line.startswith("ready"):
                    return
                progress.note(line.rstrip())
                line = ""
            elif ended is not None:
                raise NotServing(f"the product did not start ({how_it_ended(ended)})", log_tail(log))
            else:
                time.sleep(_LOOK_EVERY_S)
