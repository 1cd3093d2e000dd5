"""A stage's process whose training takes seconds: it reads, writes and keeps checkpoints as the real one does.

Started by its path with nothing but the standard library, so that a thousand of them cost little.
"""

import json
import os
import struct
import sys
import time
from pathlib import Path
from typing import Any

_PREFIX = "base_model.model.model.layers.0.self_attn.q_proj"
_RANK, _WIDTH = 4, 8


def main(argv: list[str]) -> int:
    """argv: the stage's folder, its kind, the manifest's digest, how many steps, and seconds of each."""
    out, kind, sha256, steps, step_s = argv
    _train(Path(out), kind, sha256, int(steps), float(step_s))
    return 0


def _train(folder: Path, kind: str, sha256: str, steps: int, step_s: float) -> None:
    done = _newest_checkpoint(folder, sha256)
    for step in range(done + 1, steps + 1):
        time.sleep(step_s)
        line: dict[str, Any] = {
            "stage": kind,
            "event": "metric",
            "step": step,
            "total_steps": steps,
            "loss": 1 / step,
        }
        with (folder / "events.jsonl").open("a") as events:
            events.write(json.dumps(line | {"message": ""}) + "\n")
        _keep(folder / "checkpoints" / f"checkpoint-{step}", sha256)
    if kind == "traces":
        _write(
            folder / "traces.jsonl",
            (json.dumps({"id": sha256, "completion": "as a teacher would"}) + "\n").encode(),
        )
    else:
        _make_adapter(folder / "adapter", f"{kind} {sha256}")
    result: dict[str, Any] = {
        "status": "succeeded",
        "code": None,
        "message": "",
        "stage": kind,
        "step": steps,
        "tokens": 100,
    }
    result |= {"wall_s": steps * step_s, "manifest_sha256": sha256, "metrics": {"loss_last": 1 / steps}}
    _write_json(folder / "result.json", result)


def _newest_checkpoint(folder: Path, sha256: str) -> int:
    newest = 0
    for mark in (folder / "checkpoints").glob("checkpoint-*/complete.json"):
        if json.loads(mark.read_bytes())["manifest_sha256"] == sha256:
            newest = max(newest, int(mark.parent.name.rpartition("-")[2]))
    return newest


def _keep(folder: Path, sha256: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "state", folder.name.encode())
    _write_json(folder / "complete.json", {"manifest_sha256": sha256})


def _make_adapter(folder: Path, told: str) -> None:
    """As small as an adapter can be, and another one for each stage of each run."""
    folder.mkdir(exist_ok=True)
    config = {"peft_type": "LORA", "r": _RANK, "target_modules": ["q_proj"], "bias": "none", "made_by": told}
    _write_json(folder / "adapter_config.json", config)
    size = _RANK * _WIDTH * 4
    header = {
        f"{_PREFIX}.lora_A.weight": {"dtype": "F32", "shape": [_RANK, _WIDTH], "data_offsets": [0, size]},
        f"{_PREFIX}.lora_B.weight": {
            "dtype": "F32",
            "shape": [_WIDTH, _RANK],
            "data_offsets": [size, 2 * size],
        },
    }
    told_as = json.dumps(header).encode()
    _write(folder / "adapter_model.safetensors", struct.pack("<Q", len(told_as)) + told_as + bytes(2 * size))


def _write_json(path: Path, content: dict[str, Any]) -> None:
    _write(path, json.dumps(content).encode())


def _write(path: Path, content: bytes) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(content)
    beside.replace(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
