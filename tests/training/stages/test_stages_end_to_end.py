"""Each stage as the product runs it: a child process, a manifest in, files out."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from evaluation.contract.parse import parse
from tests.training.shop import Tenant
from training.config import StageManifest
from training.data.examples import read_traces

# Each stage once is part of every run of the tests, on one worker, which then trains the adapter once.
pytestmark = [pytest.mark.seconds, pytest.mark.timeout(600), pytest.mark.xdist_group("stages")]
ROOT = Path(__file__).parents[3]


def run_stage(manifest: dict[str, Any], out: Path, timeout_s: float = 240) -> dict[str, Any]:
    out.mkdir(parents=True, exist_ok=True)
    path = out / "manifest.json"
    path.write_text(StageManifest.model_validate(manifest | {"out": str(out)}).model_dump_json())
    process = subprocess.run(
        [sys.executable, "-m", "training", "run", str(path)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")},
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    assert (out / "result.json").exists(), process.stderr[-3000:]
    result: dict[str, Any] = json.loads((out / "result.json").read_text())
    assert process.returncode == (0 if result["status"] == "succeeded" else 1)
    if result["status"] == "failed":
        print(process.stderr[-6000:])
    return result


def events(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]


@pytest.fixture
def manifest(tenant: Tenant, base: Path) -> dict[str, Any]:
    return {
        "base": str(base),
        "category_schema": tenant.schema.model_dump(),
        "conversations": str(tenant.path),
    }


@pytest.fixture(scope="session")
def sft_adapter(tenant: Tenant, base: Path, traces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sft")
    stage = {
        "kind": "sft",
        "max_steps": 20,
        "batch_size": 12,
        "micro_batch_size": 12,
        "learning_rate": 2e-3,
        "precision": "fp32",
    }
    result = run_stage(
        {
            "stage": stage,
            "base": str(base),
            "traces": str(traces),
            "category_schema": tenant.schema.model_dump(),
            "conversations": str(tenant.path),
        },
        out,
    )
    assert result["status"] == "succeeded", result["message"]
    assert result["metrics"]["loss_last"] < 0.7 * result["metrics"]["loss_first"]
    return out / "adapter"


def test_sft_lowers_the_loss_and_leaves_an_adapter(sft_adapter: Path) -> None:
    assert {p.name for p in sft_adapter.iterdir()} >= {"adapter_model.safetensors", "adapter_config.json"}
    config = json.loads((sft_adapter / "adapter_config.json").read_text())
    assert config["target_modules"] == sorted(config["target_modules"])  # the same adapter, the same digest
    kinds = [event["event"] for event in events(sft_adapter.parent)]
    assert kinds[0] == "started" and kinds[-1] == "finished" and "metric" in kinds


def test_kept_traces_are_right_and_the_others_are_counted(
    manifest: dict[str, Any], tenant: Tenant, tmp_path: Path
) -> None:
    """The tiny model guesses one of four codes, so of eight tries some are right. It never saw a hint."""
    stage = {
        "kind": "traces",
        "samples": 8,
        "max_new_tokens": 80,
        "teachers": [{"kind": "privileged", "hint": "none"}],
    }
    result = run_stage(manifest | {"stage": stage}, tmp_path)
    assert result["status"] == "succeeded", result["message"]
    kept = read_traces(tmp_path / "traces.jsonl", tenant.schema).traces
    by_id = {c.id: c for c in tenant.conversations}
    for trace in kept:
        answer = parse(trace.completion, tenant.schema, trace.codes)
        assert answer.failure is None and answer.category == by_id[trace.id].category
    metrics = result["metrics"]
    assert metrics["kept"] == len(kept) > 0
    assert metrics["kept"] + metrics["without_yield"] == metrics["tried"] == len(tenant.conversations)
    assert sum(tried for _, tried in metrics["yield_by_category"].values()) == metrics["tried"]


@pytest.mark.slow
def test_traces_of_a_model_that_knows_nothing_fail_and_say_why(
    manifest: dict[str, Any], tmp_path: Path
) -> None:
    stage = {"kind": "traces", "samples": 2, "limit": 4, "max_new_tokens": 8}
    result = run_stage(manifest | {"stage": stage}, tmp_path)
    assert (result["status"], result["code"]) == ("failed", "no_traces")
    assert not (tmp_path / "traces.jsonl").exists()


def test_distillation_goes_on_with_the_adapter_and_moves_it(
    manifest: dict[str, Any], sft_adapter: Path, traces: Path, tmp_path: Path
) -> None:
    stage = {
        "kind": "distill",
        "steps": 6,
        "batch_size": 8,
        "micro_batch_size": 4,
        "max_new_tokens": 24,
        "learning_rate": 1e-3,
        "checkpoint_every": 3,
    }
    given = {"stage": stage, "adapter": str(sft_adapter), "traces": str(traces)}
    result = run_stage(manifest | given, tmp_path)
    assert result["status"] == "succeeded", result["message"]
    assert adapter_bytes(tmp_path / "adapter") != adapter_bytes(sft_adapter)
    assert result["tokens"] > 0
    assert not (tmp_path / "checkpoints").exists()


def test_rl_goes_on_with_the_adapter_and_moves_it(
    manifest: dict[str, Any], sft_adapter: Path, tmp_path: Path
) -> None:
    stage = {
        "kind": "rl",
        "steps": 3,
        "batch_size": 16,
        "micro_batch_size": 8,
        "generations": 4,
        "max_new_tokens": 48,
        "learning_rate": 1e-3,
    }
    result = run_stage(manifest | {"stage": stage, "adapter": str(sft_adapter)}, tmp_path)
    assert result["status"] == "succeeded", result["message"]
    assert adapter_bytes(tmp_path / "adapter") != adapter_bytes(sft_adapter)
    assert "reward_last" in result["metrics"] and "label_accuracy_last" in result["metrics"]


@pytest.mark.slow
def test_a_stage_told_to_stop_says_so_and_goes_on_from_its_checkpoint(
    manifest: dict[str, Any], sft_adapter: Path, traces: Path, tmp_path: Path
) -> None:
    stage = {
        "kind": "distill",
        "steps": 12,
        "batch_size": 4,
        "micro_batch_size": 4,
        "max_new_tokens": 24,
        "checkpoint_every": 1,
        "precision": "fp32",
    }
    given = manifest | {
        "stage": stage,
        "adapter": str(sft_adapter),
        "traces": str(traces),
        "out": str(tmp_path),
    }
    path = tmp_path / "manifest.json"
    path.write_text(StageManifest.model_validate(given).model_dump_json())
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "training", "run", str(path)], cwd=ROOT, stdout=log, stderr=log
        )
        while len(list((tmp_path / "checkpoints").glob("checkpoint-*/complete.json"))) < 2:
            assert process.poll() is None, (tmp_path / "log").read_text()[-3000:]
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 1
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["status"], result["code"]) == ("failed", "cancelled")
    again = run_stage({name: value for name, value in given.items() if name != "out"}, tmp_path)
    assert (again["status"], again["step"]) == ("succeeded", 12)
    assert any(event["message"].startswith("resuming from checkpoint-") for event in events(tmp_path))


@pytest.mark.slow
def test_a_finished_stage_is_not_run_again(
    manifest: dict[str, Any], sft_adapter: Path, tmp_path: Path
) -> None:
    out = sft_adapter.parent
    before = events(out)
    subprocess.run(
        [sys.executable, "-m", "training", "run", str(out / "manifest.json")], cwd=ROOT, check=True
    )
    assert events(out) == before


@pytest.mark.slow
def test_a_missing_base_model_is_named(manifest: dict[str, Any], traces: Path, tmp_path: Path) -> None:
    given = {"stage": {"kind": "sft"}, "base": str(tmp_path / "nowhere"), "traces": str(traces)}
    result = run_stage(manifest | given, tmp_path / "out")
    assert (result["status"], result["code"]) == ("failed", "base_not_found")
    assert "nowhere" in result["message"]


def adapter_bytes(folder: Path) -> bytes:
    return (folder / "adapter_model.safetensors").read_bytes()
