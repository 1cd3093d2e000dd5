"""Responses written by vLLM: by the adapter that it is handed, and weighted where its probabilities are not ours."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from tests.training.shop import Tenant
from training.artifacts import StageFailed, read_result, write_json
from training.config import Distill, Rl, StageManifest
from training.engine.losses import IMPORTANCE_CAP, importance_weights
from training.engine.model import Loaded, load, prompt_tokens
from training.engine.padding import left_padded, right_padded
from training.engine.progress import EventWriter
from training.generation import samplers
from training.generation.prefix.scoring import score
from training.generation.samplers import Drawn, VllmSampler
from training.stages import rl
from training.stages.distill import stage as distill

STARTER = Path(__file__).parents[3] / "training" / "starter" / "weights"
SMALL = {"batch_size": 8, "micro_batch_size": 8, "max_new_tokens": 24, "precision": "fp32", "steps": 1}


def manifest_of(tenant: Tenant, base: Path, out: Path, **settings: Any) -> StageManifest:
    out.mkdir(exist_ok=True)
    return StageManifest.model_validate(
        {
            "stage": SMALL | {"lora": {"rank": 4, "alpha": 8}} | settings,
            "base": str(base),
            "category_schema": tenant.schema,
            "conversations": str(tenant.path),
            "out": str(out),
        }
    )


class Shifted:
    """Stands for a vLLM whose probabilities are all too high or too low by `shift` nats."""

    def __init__(self, trainer: Any, shift: float):
        self._trainer, self._shift = trainer, shift

    def __call__(self, model: Any, prompts: list[list[int]]) -> Drawn:
        trainer, pad = self._trainer, self._trainer.processing_class.pad_token_id
        trainer.vllm = None
        written = trainer.write(prompts)
        trainer.vllm = self
        with torch.no_grad():
            ids_BT, mask_BT = right_padded(written, pad, torch.device("cpu"))
            scored = score(model, *left_padded(prompts, pad, torch.device("cpu")), ids_BT, mask_BT, 1.0)
        logps = [row[: len(ids)].tolist() for row, ids in zip(scored.logps_BT, written, strict=True)]
        return Drawn(written, [[logp + self._shift for logp in row] for row in logps])


@pytest.fixture
def shifted(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Trainers of both kinds write with a Shifted by as much as this is called with."""

    def install(trainer_class: Any, shift: float) -> None:
        real = trainer_class.__init__

        def made(self: Any, *args: Any, **kwargs: Any) -> None:
            real(self, *args, **kwargs)
            self.vllm = Shifted(self, shift)

        monkeypatch.setattr(trainer_class, "__init__", made)

    return install


def test_weights_are_ratios_up_to_the_cap() -> None:
    logps = torch.log(torch.tensor([0.5, 0.5, 0.1], requires_grad=True))
    weights = importance_weights(logps, torch.log(torch.tensor([0.5, 0.05, 0.4])))
    assert weights.tolist() == pytest.approx([1.0, IMPORTANCE_CAP, 0.25])
    assert not weights.requires_grad


@pytest.mark.slow
@pytest.mark.parametrize(("shift", "weight"), [(0.0, 1.0), (0.5, 0.6065), (-3.0, IMPORTANCE_CAP)])
def test_rl_weighs_each_tokens_advantage(
    shift: float, weight: float, shifted: Any, tenant: Tenant, base: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    seen: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    real = rl.RlTrainer._weigh

    def watched(self: Any, out: dict[str, Any], *logps: torch.Tensor) -> None:
        before = out["advantages"].clone()
        real(self, out, *logps)
        seen.append((before, out["advantages"], out["completion_mask"].bool()))

    monkeypatch.setattr(rl.RlTrainer, "_weigh", watched)
    shifted(rl.RlTrainer, shift)
    manifest = manifest_of(tenant, base, tmp_path, kind="rl", generations=4)
    assert isinstance(manifest.stage, Rl)
    finished = rl.run(manifest, manifest.stage, EventWriter(tmp_path, "rl"))
    ((before, after, mask),) = seen
    torch.testing.assert_close(
        after[mask], (before[:, None] * weight).expand_as(after)[mask], rtol=1e-3, atol=1e-6
    )
    assert finished.metrics["sampler_gap_last"] == pytest.approx(abs(shift), abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("weighting", "shift", "factor"),
    [
        ("none", 0.5, 1.0),
        ("token", 0.5, 0.6065),
        ("prefix", -3.0, IMPORTANCE_CAP),  # the first tokens, whose prefix weighs less, are skipped
    ],
)
def test_distillation_weighs_divergences_as_it_is_told(
    weighting: str, shift: float, factor: float, shifted: Any, tenant: Tenant, base: Path, tmp_path: Path
) -> None:
    losses = []
    for by in (0.0, shift):
        with pytest.MonkeyPatch.context() as patch:
            real = distill.DistillTrainer.__init__

            def made(self: Any, *args: Any, _shift: float = by, _real: Any = real, **kwargs: Any) -> None:
                _real(self, *args, **kwargs)
                self.vllm = Shifted(self, _shift)

            patch.setattr(distill.DistillTrainer, "__init__", made)
            settings = {"kind": "distill", "hint": "criterion", "weighting": weighting}
            manifest = manifest_of(tenant, base, tmp_path / str(by), **settings)
            assert isinstance(manifest.stage, Distill)
            finished = distill.run(manifest, manifest.stage, EventWriter(manifest.out, "distill"))
        losses.append(finished.metrics["loss_last"])
        assert finished.metrics["sampler_gap_last"] == pytest.approx(abs(by), abs=1e-3)
    assert losses[1] == pytest.approx(losses[0] * factor, rel=1e-2) and losses[0] > 0


def test_without_a_gpu_the_training_process_writes_and_says_so(
    tenant: Tenant, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    manifest = manifest_of(tenant, base, tmp_path, kind="rl", generations=4)
    assert isinstance(manifest.stage, Rl)
    model = load(manifest, manifest.stage).model
    assert samplers.chosen(manifest, manifest.stage, model, 10, EventWriter(tmp_path, "rl")) is None
    assert "by the training process: there is no GPU" in (tmp_path / "events.jsonl").read_text()


def test_with_a_gpu_vllm_writes(
    tenant: Tenant, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = manifest_of(tenant, base, tmp_path, kind="rl", generations=4)
    assert isinstance(manifest.stage, Rl)
    model = load(manifest, manifest.stage).model
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    monkeypatch.setenv("RANK", "1")

    def engine(**arguments: Any) -> None:
        with samplers._environment():
            asked.append(
                arguments | {"gpu": os.environ["CUDA_VISIBLE_DEVICES"], "rank": os.environ.get("RANK")}
            )

    monkeypatch.setattr(samplers, "_engine", engine)
    assert samplers.chosen(manifest, manifest.stage, model, 100, EventWriter(tmp_path, "rl")) is not None
    assert "by a vLLM beside" in (tmp_path / "events.jsonl").read_text()
    (found,) = asked
    assert (found["gpu"], found["rank"], os.environ["RANK"]) == ("7", None, "1")
    assert (found["max_model_len"], found["max_lora_rank"], found["dtype"]) == (124, 8, "bfloat16")

    def broken(**_: Any) -> None:
        raise RuntimeError("no memory left")

    monkeypatch.setattr(samplers, "_engine", broken)
    with pytest.raises(StageFailed, match=r"no memory left.*sampler_memory"):
        samplers.chosen(manifest, manifest.stage, model, 100, EventWriter(tmp_path, "rl"))


def test_vllm_and_a_whole_model_do_not_go_together(tenant: Tenant, base: Path, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="vLLM is handed adapters"):
        manifest_of(tenant, base, tmp_path, kind="rl", generations=4, tuning="full", sampler="vllm")


@pytest.fixture(scope="module")
def real(tenant: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Loaded, VllmSampler]]:
    manifest = manifest_of(
        tenant, STARTER, tmp_path_factory.mktemp("real"), kind="rl", generations=4, sampler="vllm"
    )
    assert isinstance(manifest.stage, Rl)
    loaded = load(manifest, manifest.stage)
    vllm = samplers.chosen(manifest, manifest.stage, loaded.model, 600, EventWriter(manifest.out, "rl"))
    assert vllm is not None
    yield loaded, vllm
    del vllm


@pytest.mark.slow
def test_vllm_draws_by_the_adapter_of_the_moment(real: tuple[Loaded, VllmSampler], tenant: Tenant) -> None:
    loaded, vllm = real
    ask = [[{"role": "user", "content": f"customer: hello {n}"}] for n in range(8)]
    prompts = [prompt_tokens(loaded.tokenizer, messages) for messages in ask]  # type: ignore[arg-type]
    pad, where = loaded.tokenizer.pad_token_id, torch.device("cpu")
    for _ in range(2):
        with torch.no_grad():
            for name, parameter in loaded.model.named_parameters():
                if "lora_B" in name:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
        torch.manual_seed(1)
        drawn = vllm(loaded.model, prompts)
        torch.manual_seed(1)
        again = vllm(loaded.model, prompts)
        assert drawn.completions == again.completions
        ids_BT, mask_BT = right_padded(drawn.completions, pad, where)
        said = torch.cat([torch.tensor(row) for row in drawn.logps])
        with torch.no_grad():
            here = score(loaded.model, *left_padded(prompts, pad, where), ids_BT, mask_BT, 1.0).logps_BT
            with loaded.model.disable_adapter():
                base = score(loaded.model, *left_padded(prompts, pad, where), ids_BT, mask_BT, 1.0).logps_BT
        mask = mask_BT.bool()
        gap, to_base = (here[mask] - said).abs().mean(), (base[mask] - said).abs().mean()
        assert gap < 0.1 and to_base > 3 * gap


@pytest.mark.slow
def test_a_stage_learns_from_what_vllm_wrote(tenant: Tenant, tmp_path: Path) -> None:
    manifest = manifest_of(
        tenant, STARTER, tmp_path, kind="rl", generations=4, sampler="vllm", max_new_tokens=120
    )
    path = tmp_path / "manifest.json"
    write_json(path, manifest.model_dump(mode="json"))
    subprocess.run([sys.executable, "-m", "training", "run", str(path)], check=True, timeout=400)
    result = read_result(tmp_path)
    assert result is not None and result["status"] == "succeeded", result
    assert 0 < result["metrics"]["sampler_gap_last"] < 0.2
    assert "by a vLLM beside" in (tmp_path / "events.jsonl").read_text()
