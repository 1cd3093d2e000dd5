"""What a run will take on this machine: asked of a child process, which tries the base for some seconds."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from app.errors import AppError
from app.runs.supervisor import environment
from evaluation.contract.mode import Mode
from training.config import StageManifest

_GIB = 1 << 30
_TIMEOUT_S = 600.0  # of a probe of seconds, on a machine that does much else


class NotEstimated(AppError):
    """The probe failed."""

    code = "not_estimated"


def estimate(
    manifests: Sequence[StageManifest], evaluated: int, mode: Mode = Mode.reasoned
) -> dict[str, Any]:
    """evaluated: questions of the evaluation, asked in that mode. Raises: NotEstimated."""
    with tempfile.TemporaryDirectory(prefix="steerwise-estimate-") as folder:
        paths = [Path(folder) / f"{number}.json" for number in range(len(manifests))]
        for path, manifest in zip(paths, manifests, strict=True):
            path.write_text(manifest.model_dump_json())
        asked = ["--evaluated", str(evaluated), "--mode", mode]
        argv = [sys.executable, "-m", "training", "estimate", *map(str, paths), *asked]
        try:
            child = subprocess.run(
                argv, env=environment(), capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
            )
            found: dict[str, Any] = json.loads(child.stdout) if child.returncode == 0 else {}
        except subprocess.TimeoutExpired:
            raise NotEstimated(f"the probe took more than {_TIMEOUT_S:g} s") from None
    if not found:
        raise NotEstimated("the probe failed", child.stderr.strip().split("\n")[-3:])
    return found


def line(found: dict[str, Any]) -> str:
    """All of it in one."""
    machine = found["machine"]
    stages = ", ".join(f"{stage['stage']} {_minutes(stage)}" for stage in found["stages"])
    memory = f"; {_gib(found['memory_bytes'])} GiB of memory at most" if found["memory_bytes"] else ""
    where = f"{machine['processor']}, {machine['cores']} cores, {machine['precision']}"
    return f"about {found['minutes']:.0f} minutes here ({where}): {stages}{memory}{_warning(found)}"


def table(found: dict[str, Any]) -> Table:
    machine = found["machine"]
    where = f"{machine['processor']}, {machine['cores']} cores, {machine['precision']}"
    shown = Table(title=where, title_justify="left", caption=_warning(found).removeprefix("; ") or None)
    for column in ("stage", "minutes", "tokens read", "learned", "written", "GiB"):
        shown.add_column(column, justify="left" if column == "stage" else "right")
    for stage in found["stages"]:
        tokens = [f"{stage['tokens'][name]:,}" for name in ("read", "learned", "written")]
        memory = _gib(stage["memory_bytes"]) if stage["memory_bytes"] else "–"
        shown.add_row(stage["stage"], _minutes(stage), *tokens, memory)
    whole = _gib(found["memory_bytes"]) if found["memory_bytes"] else "–"
    shown.add_row("all", f"{found['minutes']:.0f}", "", "", "", whole, style="bold")
    return shown


def _minutes(stage: dict[str, Any]) -> str:
    """With a mark where max_seconds ends the stage before it has done everything."""
    return f"{stage['minutes']:.1f}{' (max_seconds)' if stage['bounded'] else ''}"


def _gib(size: int) -> str:
    return f"{size / _GIB:.1f}"


def _warning(found: dict[str, Any]) -> str:
    have, need = found["machine"]["memory_bytes"], found["memory_bytes"]
    if need is None or need < have:
        return ""
    return f"; this machine has {_gib(have)} GiB, so lower the stages' micro_batch_size"
