"""The adapter that a stage leaves is the best that the validation split saw, and it ends where none gets better."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from tests.training.shop import Tenant
from training.config import Sft, StageManifest
from training.engine import validation
from training.engine.model import load
from training.engine.progress import EventWriter
from training.engine.trainer import Watch
from training.engine.validation import Validation, ValidationScore
from training.protocol import Validated, validated_in
from training.stages import sft

pytestmark = pytest.mark.slow  # trains

SETTINGS = {
    "kind": "sft",
    "max_steps": 6,
    "batch_size": 4,
    "micro_batch_size": 4,
    "precision": "fp32",
    "learning_rate": 1e-2,
    "warmup_steps": 0,
    "checkpoint_every": 2,
    "validate_every": 2,
    "validation_items": 4,
    "lora": {"rank": 4, "alpha": 8},
}


class Scripted:
    """In place of the answers: what each validation finds. Keeps the student's weights of each.

    kept_best: whether there was a copy of the best student as each began.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *scores: float):
        self.left, self.weights = list(scores), list[dict[str, torch.Tensor]]()
        self.kept_best = list[bool]()
        monkeypatch.setattr(Validation, "_shares", lambda own, model: self.validate(own, model))

    def validate(self, validation: Validation, model: Any) -> Validated:
        self.kept_best.append(validation._best.exists())
        named = model.named_parameters()
        self.weights.append({n: p.detach().clone() for n, p in named if "lora_" in n})
        return Validated(self.left[0], self.left.pop(0), {})


@pytest.fixture
def manifest(tenant: Tenant, base: Path, traces: Path, tmp_path: Path) -> StageManifest:
    return made(tenant, base, traces, tmp_path)


def made(tenant: Tenant, base: Path, traces: Path, out: Path, **settings: Any) -> StageManifest:
    return StageManifest.model_validate(
        {
            "stage": SETTINGS | settings,
            "base": str(base),
            "category_schema": tenant.schema,
            "conversations": str(tenant.path),
            "validation": str(tenant.path),
            "traces": str(traces),
            "out": str(out),
        }
    )


def run(manifest: StageManifest) -> dict[str, Any]:
    assert isinstance(manifest.stage, Sft)
    return sft.run(manifest, manifest.stage, EventWriter(manifest.out, "sft")).metrics


def left(manifest: StageManifest) -> dict[str, torch.Tensor]:
    weights = load_file(manifest.out / "adapter" / "adapter_model.safetensors")
    return {name.replace(".weight", ".default.weight"): weight for name, weight in weights.items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(weight, other[name]) for name, weight in one.items()
    )


def test_the_best_is_left_and_not_the_last(manifest: StageManifest, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Scripted(monkeypatch, 0.5, 0.75, 0.25)
    metrics = run(manifest)
    assert (metrics["validated_step"], metrics["validation_accuracy"], metrics["stopped_by"]) == (
        4,
        0.75,
        "steps",
    )
    assert [same(left(manifest), weights) for weights in script.weights] == [False, True, False]
    assert script.kept_best == [False, True, True]
    assert not (manifest.out / "best").exists()


def test_a_stage_that_only_watches_leaves_its_last_student(
    tenant: Tenant, base: Path, traces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Scripted(monkeypatch, 0.5, 0.75, 0.25)
    manifest = made(tenant, base, traces, tmp_path, keep_best=False)
    metrics = run(manifest)
    assert (metrics["validated_step"], metrics["validation_accuracy"]) == (6, 0.25)
    assert [same(left(manifest), weights) for weights in script.weights] == [False, False, True]
    assert script.kept_best == [False, False, False]
    assert not (manifest.out / "best").exists()


def test_a_stage_that_no_longer_gets_better_ends(
    tenant: Tenant, base: Path, traces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Scripted(monkeypatch, 0.5, 0.5, 0.25, 0.9)
    manifest = made(tenant, base, traces, tmp_path, max_steps=20, patience=2)
    metrics = run(manifest)
    assert (metrics["validated_step"], metrics["stopped_by"]) == (2, "plateau")
    assert len(script.weights) == 3 and same(left(manifest), script.weights[0])


def test_a_stage_that_died_goes_on_with_what_it_knew(
    manifest: StageManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Scripted(monkeypatch, 0.9, 0.1)
    real = Watch.on_step_end

    def dies(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 5:
            raise KeyboardInterrupt
        real(self, args, state, control, **kwargs)

    monkeypatch.setattr(Watch, "on_step_end", dies)
    with pytest.raises(KeyboardInterrupt):
        run(manifest)
    monkeypatch.setattr(Watch, "on_step_end", real)
    Scripted(monkeypatch, 0.2)
    metrics = run(manifest)
    marks = [ValidationScore(*mark) for mark in json.loads((manifest.out / "validation.json").read_text())]
    assert [mark.step for mark in marks] == [2, 4, 6]
    assert metrics["validated_step"] == 2 and same(left(manifest), first.weights[0])


def test_a_validation_counts_right_answers_under_each_of_the_two_schemas(
    manifest: StageManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(manifest.stage, Sft)
    loaded = load(manifest, manifest.stage)
    events = EventWriter(manifest.out, "sft")
    watch = Watch(manifest, manifest.stage, events)
    validated = Validation(manifest, manifest.stage, loaded, watch, events)
    asked = validated._asked
    assert len(asked) % 2 == 0 and len(asked) >= 8

    def scripted(_model: Any, prompts: list[list[int]], *_: Any) -> list[list[int]]:
        """All are right under the tenant's schema, and one under a perturbed one; the others name no code."""
        assert len(prompts) == len(asked)
        right = [number % 2 == 0 or number == 1 for number in range(len(asked))]
        texts = [f"Sure.\nAnswer: {e.gold_code if ok else '?'}" for e, ok in zip(asked, right, strict=True)]
        return [loaded.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]

    monkeypatch.setattr(validation, "sample", scripted)
    found = validated._shares(loaded.model)
    assert (found.accuracy, found.perturbed) == (1.0, 2 / len(asked))
    families = [example.perturbed.family for example in asked[1::2]]
    assert found.followed == {
        name: (name == families[0]) / families.count(name) for name in sorted(set(families))
    }
    assert validated_in({"event": "metric", **found.as_metrics()}) == found
    assert validated_in({"event": "metric", "loss": 1.0}) is None


def test_a_validation_moves_no_random_number(
    tenant: Tenant, base: Path, traces: Path, tmp_path: Path
) -> None:
    validated = made(tenant, base, traces, tmp_path / "validated")
    plain = made(tenant, base, traces, tmp_path / "plain", validate_every=None)
    for manifest in (validated, plain):
        manifest.out.mkdir()
        run(manifest)
    events = [json.loads(line) for line in (validated.out / "events.jsonl").read_text().splitlines()]
    found = [event for event in events if "validation_accuracy" in event]
    assert [event["step"] for event in found] == [2, 4, 6]

    def losses(out: Path) -> list[float]:
        lines = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
        return [line["loss"] for line in lines if "loss" in line]

    assert losses(validated.out) == losses(plain.out) != []


def test_what_does_not_fit_together_is_refused(
    tenant: Tenant, base: Path, traces: Path, tmp_path: Path, manifest: StageManifest
) -> None:
    with pytest.raises(ValidationError, match="patience: it counts validations"):
        made(tenant, base, traces, tmp_path, validate_every=None, patience=2)
    with pytest.raises(ValidationError, match="give conversations to validate on"):
        StageManifest.model_validate(manifest.model_dump() | {"validation": None})
