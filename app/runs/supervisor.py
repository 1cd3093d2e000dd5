"""One training stage as one child process: started, followed through its events, ended, and its result read."""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from pydantic import ValidationError

import app
from app.errors import AppError, NoSpace, StageProcessFailed
from app.infra.processes import how_it_ended, log_tail, spawn, stop
from app.runs import teachers
from app.settings import Settings
from training.config import Distill, Rl, Sft, StageManifest, Traces
from training.protocol import EVENTS, LOG, RESULT

_POLL_S = 0.2
_NO_ROOM_BYTES = 1 << 20
_FULL = "stage {}: the disk is full; once there is room, the same goes on where it stopped"

Event = dict[str, Any]
OnEvent = Callable[[Event], None]
Stopped = Callable[[], bool]


class StageStopped(AppError):
    """Whoever asked for the stage no longer wants it."""

    code = "stage_stopped"


class Result(NamedTuple):
    """What a stage left in `result.json`; an absent file is not a failed stage but one that died."""

    status: str
    code: str | None
    message: str
    manifest_sha256: str
    body: dict[str, Any]

    @property
    def succeeded(self) -> bool:
        return self.status == "succeeded"


def run_stage(
    manifest: Path,
    out: Path,
    settings: Settings,
    on_event: OnEvent,
    stopped: Stopped = lambda: False,
    keep: Sequence[int] = (),
) -> Result:
    """stopped: asked several times a second, must not wait. keep: file descriptors that the child holds open too.

    Raises: StageFailed, NoSpace, StageStopped; the child's whole group has ended when this returns or raises.
    """
    stage = _stage(manifest)
    learns = stage is not None and stage.kind != "traces"
    argv = command(manifest, settings.training_processes if learns else 1)
    secrets = teachers.keys(stage, settings) if isinstance(stage, Traces) else {}
    return supervise(argv, out, settings, on_event, stopped, keep, secrets)


def _stage(manifest: Path) -> Traces | Sft | Distill | Rl | None:
    """None of one that cannot be read: the stage's own process says why."""
    try:
        return StageManifest.model_validate_json(manifest.read_bytes()).stage
    except (OSError, ValidationError):
        return None


def command(manifest: Path, processes: int) -> list[str]:
    """processes: usually as many as there are GPUs; each has the whole model and a part of the batch."""
    stage = ["-m", "training", "run", str(manifest)]
    if processes == 1:
        return [sys.executable, *stage]
    several = [
        "--multi_gpu"
    ]  # its way to start processes; without a GPU a stage computes on the CPU all the same
    several += ["--num_processes", str(processes), "--num_machines", "1", "--main_process_port", "0"]
    several += [
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
    ]  # a stage says for itself what it computes in
    return [sys.executable, "-m", "accelerate.commands.launch", *several, *stage]


def supervise(
    argv: list[str],
    out: Path,
    settings: Settings,
    on_event: OnEvent,
    stopped: Stopped = lambda: False,
    keep: Sequence[int] = (),
    secrets: Mapping[str, str] = MappingProxyType({}),
) -> Result:
    """secrets: that its environment has beside what every stage needs."""
    (out / RESULT).unlink(missing_ok=True)
    events = EventReader(out / EVENTS)
    child = spawn(argv, out / LOG, environment() | dict(secrets), keep)
    try:
        while child.poll() is None:
            events.pass_on(on_event)
            if stopped():
                raise StageStopped(f"stage {out.name} was stopped")
            time.sleep(_POLL_S)
        events.pass_on(on_event)
    finally:
        stop(child, settings.stage_stop_timeout_s)
    return _judged(read_result(out), child.returncode, out)


def read_result(out: Path) -> Result | None:
    """None where there is no result or it cannot be read as one."""
    try:
        body = json.loads((out / RESULT).read_bytes())
        return Result(
            body["status"], body.get("code"), body.get("message") or "", body["manifest_sha256"], body
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


class EventReader:
    """Lines added to an events file since the last look; a line still being written is left for the next look."""

    def __init__(self, path: Path):
        self.path = path
        self.offset = path.stat().st_size if path.is_file() else 0

    def pass_on(self, on_event: OnEvent) -> None:
        if not self.path.is_file():
            return
        with self.path.open("rb") as source:
            self.offset = 0 if source.seek(0, os.SEEK_END) < self.offset else self.offset
            source.seek(self.offset)
            block = source.read()
        whole = block[: block.rfind(b"\n") + 1]
        self.offset += len(whole)
        for line in whole.split(b"\n"):
            if line.strip():
                on_event(json.loads(line))


def environment() -> dict[str, str]:
    root = str(Path(next(iter(app.__path__))).parent)  # so that `-m training` is found from any directory
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    quiet = {"TOKENIZERS_PARALLELISM": "false", "TRL_EXPERIMENTAL_SILENCE": "1", "WANDB_DISABLED": "true"}
    return _without_ours() | offline | quiet | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}


def _without_ours() -> dict[str, str]:
    """What this process was told of the installation, its database and its secrets, is nothing that a stage needs."""
    ours = {f"STEERWISE_{name.upper()}" for name in Settings.model_fields}
    return {name: value for name, value in os.environ.items() if name not in ours}


def _judged(result: Result | None, returncode: int, out: Path) -> Result:
    if result is None and shutil.disk_usage(out).free < _NO_ROOM_BYTES:
        raise NoSpace(_FULL.format(out.name))  # it could not even say so
    if result is None:
        ending = how_it_ended(returncode)
        raise StageProcessFailed(
            f"stage {out.name} died without a result ({ending}); its log: {out / LOG}", log_tail(out / LOG)
        )
    if result.succeeded and returncode == 0:
        return result
    if result.code == "disk_full":
        raise NoSpace(_FULL.format(out.name))
    reason = result.message or result.code or how_it_ended(returncode)
    raise StageProcessFailed(
        f"stage {out.name} failed ({result.code or 'no code'}): {reason}", [f"its log: {out / LOG}"]
    )
