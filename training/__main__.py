"""`python -m training run MANIFEST.json`: one stage in one process. Parses and checks before torch is imported.

`baseline` in the place of `run` trains an RL stage by TRL's own trainer, to measure ours by. `estimate` takes the
manifests of a run's stages and prints what they will cost here, as JSON.
"""

import argparse
import json
import os
import resource
import signal
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, assert_never

from pydantic import ValidationError

from evaluation.contract.mode import Mode
from training.artifacts import (
    Finished,
    StageCancelled,
    StageFailed,
    drop_checkpoints,
    failure_of,
    read_result,
    write_json,
)
from training.config import Distill, Rl, Sft, StageManifest, Traces
from training.engine.progress import EventWriter
from training.protocol import RESULT, SHARED_CORES, FailureCode

_COMMANDS = {
    "run": "run the stage that a manifest describes",
    "baseline": "run an RL stage by TRL's own trainer",
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, does in _COMMANDS.items():
        commands.add_parser(name, help=does).add_argument("manifest", type=Path, metavar="MANIFEST.json")
    estimating = commands.add_parser("estimate", help="say what stages will cost on this machine")
    estimating.add_argument("manifests", type=Path, nargs="+", metavar="MANIFEST.json")
    estimating.add_argument("--evaluated", type=int, default=0, help="questions of the evaluation")
    estimating.add_argument(
        "--mode", type=Mode, choices=list(Mode), default=Mode.reasoned, help="they are asked in"
    )
    parsed = parser.parse_args(arguments)
    if parsed.command == "estimate":
        return estimate(parsed.manifests, parsed.evaluated, parsed.mode)
    try:
        manifest = StageManifest.model_validate_json(parsed.manifest.read_bytes())
    except (OSError, ValidationError) as error:
        print(f"{parsed.manifest} is not a manifest that can be run: {error}", file=sys.stderr)
        return 2
    if parsed.command == "baseline" and not isinstance(manifest.stage, Rl):
        print(f"{parsed.manifest}: the baseline is of RL, and this is {manifest.stage.kind}", file=sys.stderr)
        return 2
    return run(manifest, as_trl=parsed.command == "baseline")


def estimate(manifests: list[Path], evaluated: int, mode: Mode) -> int:
    """0: told, on standard output; 1: the probe failed."""
    _keep_to_this_machine()
    _leave_vllm_out()
    read = [StageManifest.model_validate_json(path.read_bytes()) for path in manifests]
    from training.engine.estimate import estimate as estimated

    try:
        print(json.dumps(estimated(read, evaluated, mode), indent=2))
    except StageFailed as error:
        print(f"{error.code}: {error.message}", file=sys.stderr)
        return 1
    return 0


def run(manifest: StageManifest, *, as_trl: bool = False) -> int:
    """0: succeeded, also where an earlier process already finished this very manifest; 1: failed."""
    earlier = read_result(manifest.out)
    if earlier and earlier["status"] == "succeeded" and earlier["manifest_sha256"] == manifest.sha256:
        return 0
    manifest.out.mkdir(parents=True, exist_ok=True)
    speaks = os.environ.get("RANK", "0") == "0"  # of the processes that `accelerate launch` starts
    if speaks:
        (manifest.out / RESULT).unlink(missing_ok=True)
    signal.signal(signal.SIGTERM, _cancel)
    _keep_to_this_machine()
    _leave_vllm_out()
    events = EventWriter(manifest.out, manifest.stage.kind, silent=not speaks)
    started = time.monotonic()
    try:
        events.write("started", message=f"stage {manifest.stage.kind} on {manifest.base}")
        finished = _dispatch(manifest, events, as_trl)
        outcome = _outcome(manifest, time.monotonic() - started, finished)
        if speaks:
            drop_checkpoints(manifest.out)
    except BaseException as error:  # noqa: BLE001
        signal.signal(
            signal.SIGTERM, signal.SIG_IGN
        )  # a second signal must not stop the result from being written
        if not isinstance(error, StageFailed | StageCancelled):
            traceback.print_exc()
        outcome = _outcome(manifest, time.monotonic() - started, failure_of(error), events.step)
    if not speaks and outcome["status"] == "succeeded":
        return 0
    return _report(manifest, events, outcome)


def _dispatch(manifest: StageManifest, events: EventWriter, as_trl: bool) -> Finished:
    stage = manifest.stage
    match stage:
        case Traces():
            from training.stages import traces

            return traces.run(manifest, stage, events)
        case Sft():
            from training.stages import sft

            return sft.run(manifest, stage, events)
        case Distill():
            from training.stages.distill import stage as distill

            return distill.run(manifest, stage, events)
        case Rl() if as_trl:
            from training.stages import rl_baseline

            return rl_baseline.run(manifest, stage, events)
        case Rl():
            from training.stages import rl

            return rl.run(manifest, stage, events)
    assert_never(stage)


def _outcome(
    manifest: StageManifest, wall_s: float, end: Finished | StageFailed, step: int | None = None
) -> dict[str, Any]:
    failed = isinstance(end, StageFailed)
    return {
        "status": "failed" if failed else "succeeded",
        "code": end.code.value if isinstance(end, StageFailed) else None,
        "message": end.message if isinstance(end, StageFailed) else "",
        "stage": manifest.stage.kind,
        "step": step if end.step is None else end.step,
        "manifest_sha256": manifest.sha256,
        "metrics": end.metrics if isinstance(end, Finished) else {},
        "tokens": end.tokens if isinstance(end, Finished) else None,
        "wall_s": round(wall_s, 3),
        "peak_memory_bytes": _peak_memory_bytes(),
    }


def _report(manifest: StageManifest, events: EventWriter, outcome: dict[str, Any]) -> int:
    """The result is written last: who finds it finds everything else."""
    failed = outcome["status"] == "failed"
    if failed:
        print(f"{outcome['code']}: {outcome['message']}", file=sys.stderr)
    earlier = read_result(manifest.out)
    if earlier is not None and outcome["code"] == FailureCode.cancelled:
        return 1  # another process of this stage failed first, and its reason is the one to tell
    try:
        events.write("failed" if failed else "finished", step=outcome["step"], message=outcome["message"])
        write_json(manifest.out / RESULT, outcome)
    except OSError as error:
        print(f"{FailureCode.disk_full.value}: the result could not be written ({error})", file=sys.stderr)
        return 1
    return 1 if failed else 0


def _cancel(_signal: int, _frame: FrameType | None) -> None:
    raise StageCancelled


def _keep_to_this_machine() -> None:
    """No downloads and no telemetry; who wants a hub model puts it into the cache first. Cores are shared.

    Before torch is imported, which reads some of this when it is loaded.
    """
    for name in ("HF_HUB_OFFLINE", "TRL_EXPERIMENTAL_SILENCE", "HF_HUB_DISABLE_TELEMETRY"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name, value in SHARED_CORES.items():
        os.environ.setdefault(name, value)


def _leave_vllm_out() -> None:
    """TRL imports all of vLLM where it is installed: a third of the time to start, and no stage samples with it."""
    looks_for_packages: Any = import_module("trl.import_utils")
    looks_for_packages.is_vllm_available = lambda *_, **__: False


def _peak_memory_bytes() -> int:
    """On the accelerator where one was used, else of this process (Linux counts it in KiB)."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    sys.exit(main())
