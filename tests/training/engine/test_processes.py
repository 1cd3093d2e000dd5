"""A stage in two processes, started as the product starts them where there are several GPUs."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from app.runs.supervisor import command
from tests.training.shop import Tenant
from training.config import StageManifest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
LEARNING = {
    "batch_size": 8,
    "micro_batch_size": 4,
    "precision": "fp32",
    "learning_rate": 1e-3,
    "warmup_steps": 0,
    "lora": {"rank": 4, "alpha": 8},
}
STAGES = {
    "sft": {"kind": "sft", "max_steps": 3, **LEARNING},
    "distill": {"kind": "distill", "steps": 2, "max_new_tokens": 24, **LEARNING},
    "rl": {
        "kind": "rl",
        "steps": 2,
        "generations": 4,
        "max_new_tokens": 24,
        "teacher_weight": 0.5,
        "teacher_on": "all",
        "validate_every": 1,
        "validation_items": 2,
        **LEARNING,
    },
}


def run(tenant: Tenant, base: Path, traces: Path, out: Path, stage: dict[str, Any], processes: int) -> str:
    out.mkdir()
    manifest = StageManifest.model_validate(
        {
            "stage": stage,
            "base": str(base),
            "category_schema": tenant.schema,
            "conversations": str(tenant.path),
            "validation": str(tenant.path),
            "traces": None if stage["kind"] == "rl" else str(traces),
            "out": str(out),
        }
    )
    path = out / "manifest.json"
    path.write_text(manifest.model_dump_json())
    argv = command(path, processes)
    if processes > 1:
        argv[argv.index("training")] = "tests.training.in_step"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def weights(out: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(out / "adapter" / "adapter_model.safetensors"))


def test_sft_in_two_processes_learns_what_it_learns_in_one(
    tenant: Tenant, base: Path, traces: Path, tmp_path: Path
) -> None:
    said = run(tenant, base, traces, tmp_path / "two", STAGES["sft"], 2)
    assert said.count("in step at 3") == 2
    run(tenant, base, traces, tmp_path / "one", STAGES["sft"], 1)
    two = weights(tmp_path / "two")
    for name, wanted in weights(tmp_path / "one").items():
        torch.testing.assert_close(two[name], wanted, rtol=1e-3, atol=1e-5)
    events = [json.loads(line) for line in (tmp_path / "two" / "events.jsonl").read_text().splitlines()]
    assert [event["step"] for event in events if event["event"] == "metric"] == [1, 2, 3]  # one speaks


@pytest.mark.parametrize("kind", ["distill", "rl"])
def test_a_stage_that_samples_keeps_its_processes_in_step(
    kind: str, tenant: Tenant, base: Path, traces: Path, tmp_path: Path
) -> None:
    said = run(tenant, base, traces, tmp_path / "two", STAGES[kind], 2)
    assert said.count("in step at 2") == 2
    # Each process writes its half of every step's batch, and nothing in store for another step.
    assert re.findall(r"writes (\d+)", said) == [str(LEARNING["batch_size"] // 2)] * 2 * 2
    result = json.loads((tmp_path / "two" / "result.json").read_text())
    assert (result["status"], result["step"]) == ("succeeded", 2)
    assert any(
        weight.abs().sum() > 0 for name, weight in weights(tmp_path / "two").items() if "lora_B" in name
    )
