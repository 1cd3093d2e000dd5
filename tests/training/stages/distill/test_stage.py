"""Distillation off the student's own path: on the traces, on general prompts, and after a look at the teacher."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.training.shop import Tenant
from tests.training.stages.distill.test_trainer import SETTINGS
from training.artifacts import StageFailed
from training.config import Distill, StageManifest
from training.engine.model import load_tokenizer
from training.engine.progress import EventWriter
from training.generation.rollouts import sample
from training.stages.distill import preflight
from training.stages.distill.stage import run
from training.stages.distill.trainer import DistillTrainer

pytestmark = pytest.mark.slow  # trains


def whole(
    tenant: Tenant, base: Path, out: Path, traces: Path | None, adapter: Path | None = None, **settings: Any
) -> dict[str, Any]:
    """The stage as it is run, of two steps. adapter: what was learned before it."""
    out.mkdir(parents=True, exist_ok=True)
    stage = {"kind": "distill", "steps": 2, **SETTINGS, "micro_batch_size": 4, **settings}
    manifest = StageManifest.model_validate(
        {
            "stage": stage,
            "base": str(base),
            "category_schema": tenant.schema,
            "conversations": str(tenant.path),
            "traces": traces and str(traces),
            "adapter": adapter and str(adapter),
            "out": str(out),
        }
    )
    assert isinstance(manifest.stage, Distill)
    return run(manifest, manifest.stage, EventWriter(out, "distill")).metrics


def test_offline_the_student_learns_on_the_traces_word_for_word(
    tenant: Tenant, base: Path, traces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    real = DistillTrainer._generate_and_score_completions

    def watched(self: DistillTrainer, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        wanted = [row["completion"] for row in inputs]
        out = real(self, inputs)
        decode = self.processing_class.decode
        kept = zip(out["completion_ids"], out["completion_mask"].bool(), strict=True)
        found = [decode(ids[mask], skip_special_tokens=True) for ids, mask in kept]
        assert found == wanted
        seen.extend(found)
        return out

    monkeypatch.setattr(DistillTrainer, "_generate_and_score_completions", watched)
    metrics = whole(tenant, base, tmp_path, traces, on_policy=False, hint="criterion", max_new_tokens=64)
    assert len(seen) == 8 and all(text.startswith("They write that") for text in seen)
    assert metrics["with_trace"] == metrics["prompts"] == 8


def test_general_prompts_are_asked_of_student_and_base_alike(
    tenant: Tenant, base: Path, traces: Path, tmp_path: Path
) -> None:
    """Of a student that has not learned anything yet the base has nothing to take back, and of one that has it has."""
    prompts = tmp_path / "general.jsonl"
    texts = ("where is my parcel", "I want to cancel")
    lines = [json.dumps({"messages": [{"role": "user", "content": text}]}) for text in texts]
    prompts.write_text("\n".join(lines))
    settings = {"teacher": "base", "hint": "none", "prompts": str(prompts), "divergence": "reverse"}
    metrics = whole(tenant, base, tmp_path / "out", None, **settings)
    assert metrics["with_trace"] == 0 and abs(metrics["loss_first"]) < 1e-6
    whole(tenant, base, tmp_path / "learned", traces, on_policy=False, hint="criterion", max_new_tokens=64)
    adapter = tmp_path / "learned" / "adapter"
    assert whole(tenant, base, tmp_path / "back", None, adapter, **settings)["loss_first"] > 1e-4
    prompts.write_text('{"text": "hello"}')
    with pytest.raises(StageFailed, match=r"line 1: a line is"):
        whole(tenant, base, tmp_path / "again", None, **settings)


def test_a_teacher_is_measured_before_it_teaches_and_nothing_changes_by_it(
    tenant: Tenant, base: Path, traces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who sees a demonstration answers as it does; who sees none names no code."""

    def scripted(model: Any, prompts: list[list[int]], *rest: Any) -> list[list[int]]:
        sample(model, prompts, *rest)  # for its random numbers
        answers = [tokenizer.decode(prompt).rpartition("Answer: ") for prompt in prompts]
        shown = [
            f"Sure.\nAnswer: {end[0]}" if "example for a response" in head else "?"
            for head, _, end in answers
        ]
        return [tokenizer(text, add_special_tokens=False)["input_ids"] for text in shown]

    tokenizer = load_tokenizer(str(base))
    monkeypatch.setattr(preflight, "sample", scripted)
    plain = whole(tenant, base, tmp_path / "plain", traces, max_new_tokens=40)
    metrics = whole(tenant, base, tmp_path / "measured", traces, max_new_tokens=40, preflight=6)
    assert metrics["preflight_prompts"] == 6
    assert (metrics["preflight_student_right"], metrics["preflight_teacher_right"]) == (0.0, 1.0)
    assert metrics["preflight_worth_it"] is True
    assert metrics["preflight_teacher_kl_to_base"] > 0
    assert metrics["loss_last"] == plain["loss_last"]
    said = [
        json.loads(line)["message"]
        for line in (tmp_path / "measured" / "events.jsonl").read_text().splitlines()
    ]
    assert any("on 6 prompts the student is right for 0% and the teacher for 100%" in one for one in said)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"teacher": "external"}, "teacher_model: give it"),
        ({"teacher_model": "somewhere"}, "teacher_model: give it"),
        ({"estimator": "token"}, "is of `reverse`"),
        (
            {"estimator": "token", "divergence": "reverse", "on_policy": False},
            "needs the student's own words",
        ),
        ({"estimator": "constant", "divergence": "reverse", "clip": 1.0}, "top_k, clip: only"),
        ({"discount": 0.5}, "discount: only"),
        ({"rollouts": 3}, "do not divide"),
        ({"prompts": "x.jsonl"}, "general prompts have no answer"),
    ],
)
def test_settings_that_do_not_fit_together_are_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Distill.model_validate(settings)
