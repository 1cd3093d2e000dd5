"""The teacher: where it starts, how it follows, that it is restored, and that it reads the whole schema."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import TrainerControl, TrainerState, TrainingArguments

from tests.training.shop import Tenant
from training.artifacts import StageFailed, latest_checkpoint
from training.config import Distill, StageManifest
from training.engine.losses import per_token
from training.engine.model import Loaded, load
from training.engine.progress import EventWriter
from training.engine.trainer import Watch
from training.settings import DivergenceKind, TeacherKind
from training.stages.distill.stage import _config, _external
from training.stages.distill.trainer import DistillTrainer
from training.teachers.ema import TEACHER, Follow, add_teacher, pairs

pytestmark = pytest.mark.slow  # trains

SETTINGS = {
    "batch_size": 4,
    "micro_batch_size": 2,
    "max_new_tokens": 16,
    "precision": "fp32",
    "learning_rate": 1e-2,
    "warmup_steps": 0,
    "checkpoint_every": 2,
    "lora": {"rank": 4, "alpha": 8},
}


both_tunings = pytest.mark.parametrize("tuning", ["lora", "full"])


class Run:
    def __init__(self, tenant: Tenant, base: Path, out: Path, **settings: Any):
        stage = {"kind": "distill", "steps": 4, **SETTINGS, **settings}
        self.manifest = StageManifest.model_validate(
            {
                "stage": stage,
                "base": str(base),
                "category_schema": tenant.schema,
                "conversations": str(tenant.path),
                "out": str(out),
            }
        )
        assert isinstance(self.manifest.stage, Distill)
        self.stage = self.manifest.stage
        self.loaded: Loaded = load(self.manifest, self.stage)
        with torch.no_grad():
            for name, parameter in self.loaded.model.named_parameters():
                if parameter.requires_grad and "lora_A" not in name:
                    parameter.add_(torch.randn_like(parameter) * 0.05)
        if self.stage.teacher is TeacherKind.ema:
            add_teacher(self.loaded.model)

    def trainer(self, hint: str = " The right answer is B.") -> DistillTrainer:
        ask = {"role": "system", "content": "Choose."}
        rows = [
            {
                "prompt": [ask, {"role": "user", "content": f"customer: hello {n}"}],
                "teacher_prompt": [ask, {"role": "user", "content": f"customer: hello {n}{hint}"}],
            }
            for n in range(16)
        ]
        followers = (
            [Follow(self.loaded.model, self.stage.ema_rate)] if self.stage.teacher is TeacherKind.ema else []
        )
        return DistillTrainer(
            stage=self.stage,
            external=_external(self.stage.teacher_model, self.loaded) if self.stage.teacher_model else None,
            model=self.loaded.model,
            args=_config(self.manifest, self.stage),
            train_dataset=Dataset.from_list(rows),
            processing_class=self.loaded.tokenizer,
            callbacks=[
                *followers,
                Watch(self.manifest, self.stage, EventWriter(self.manifest.out, "distill")),
            ],
        )

    def weights(self, adapter: str) -> dict[str, torch.Tensor]:
        named = self.loaded.model.named_parameters()
        return {n: p.detach().clone() for n, p in named if f".{adapter}." in n}


def first_four(trainer: DistillTrainer) -> dict[str, Any]:
    """What the student writes to the first prompts, as it is learned from."""
    return trainer._generate_and_score_completions([dict(row) for row in trainer.train_dataset][:4])


@pytest.fixture(params=[True, False], ids=["schemas read once", "sequences alone"])
def either_way_of_reading(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.stages.distill.trainer.can_share", lambda _model: request.param)


@both_tunings
def test_the_teacher_is_the_student_at_the_start_and_is_not_trained(
    tuning: str, tenant: Tenant, base: Path, tmp_path: Path
) -> None:
    run = Run(tenant, base, tmp_path, tuning=tuning)
    for student, teacher in pairs(run.loaded.model):
        assert torch.equal(student, teacher)
        assert student.requires_grad and not teacher.requires_grad
        assert student.data_ptr() != teacher.data_ptr()


@both_tunings
def test_without_a_hint_the_loss_starts_at_zero(
    tuning: str, tenant: Tenant, base: Path, tmp_path: Path
) -> None:
    trainer = Run(tenant, base, tmp_path, tuning=tuning, steps=1).trainer(hint="")
    trainer.train()
    assert abs(trainer.state.log_history[0]["loss"]) < 1e-5


@pytest.mark.parametrize("estimator", ["analytic", "token", "rao_blackwellized"])
@pytest.mark.parametrize("rollouts", [1, 2])
def test_without_a_hint_the_live_teacher_is_the_student_for_every_estimator(
    estimator: str, rollouts: int, tenant: Tenant, base: Path, tmp_path: Path
) -> None:
    settings = {"teacher": "live", "divergence": "reverse", "estimator": estimator, "rollouts": rollouts}
    trainer = Run(tenant, base, tmp_path, steps=1, **settings).trainer(hint="")
    trainer.train()
    log = trainer.state.log_history[0]
    assert abs(log["loss"]) < 1e-5 and log["grad_norm"] < 1e-4


@both_tunings
def test_the_base_as_teacher_reads_without_the_adapter_and_an_external_one_with_its_own_weights(
    tuning: str, tenant: Tenant, base: Path, tmp_path: Path
) -> None:
    """The external teacher is the same base loaded again, so both say the same, and neither what the student says."""
    found = {}
    for kind, settings in {
        "base": {"teacher": "base"},
        "external": {"teacher": "external", "teacher_model": str(base)},
        "live": {"teacher": "live"},
    }.items():
        run = Run(tenant, base, tmp_path / kind, tuning=tuning, **settings)
        trainer = run.trainer(hint="")
        torch.manual_seed(3)
        inputs = first_four(trainer)
        loss, _, _ = trainer._compute_loss(run.loaded.model, inputs, inputs["num_items_in_batch"])
        found[kind] = loss.item()
    assert found["external"] == pytest.approx(found["base"], rel=1e-4)
    assert found["base"] > 1e-4 > abs(found["live"])


def test_a_teacher_with_another_tokenizer_is_refused(tenant: Tenant, base: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(base, other)
    tokens = json.loads((other / "tokenizer.json").read_text())
    vocabulary = tokens["model"]["vocab"]
    first, second = list(vocabulary)[10:12]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (other / "tokenizer.json").write_text(json.dumps(tokens))
    with pytest.raises(StageFailed, match="another tokenizer"):
        _external(str(other), Run(tenant, base, tmp_path / "run").loaded)


@pytest.mark.parametrize(("precision", "wanted"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
@pytest.mark.usefixtures("either_way_of_reading")
def test_student_and_teacher_are_read_in_the_precision_of_the_stage(
    precision: str, wanted: torch.dtype, tenant: Tenant, base: Path, tmp_path: Path
) -> None:
    run = Run(tenant, base, tmp_path, precision=precision, micro_batch_size=4)
    trainer = run.trainer()
    inputs = first_four(trainer)
    found: list[torch.dtype] = []
    for name, module in run.loaded.model.named_modules():
        if name.endswith("q_proj.base_layer"):
            module.register_forward_hook(lambda _module, _inputs, made: found.append(made.dtype))
    trainer._compute_loss(run.loaded.model, inputs, inputs["num_items_in_batch"])
    assert len(found) >= 4 and set(found) == {wanted}  # two layers, by student and teacher


def test_every_micro_batch_holds_whole_rows(
    tenant: Tenant, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """trl shuffles the sixteen of a step; cut as they then lie, a micro-batch would read nearly every schema."""
    learned: list[list[int]] = []
    real = DistillTrainer._compute_loss

    def watched(self: DistillTrainer, student: Any, inputs: Any, count: Any) -> Any:
        learned.append(inputs["row"].tolist())
        return real(self, student, inputs, count)

    monkeypatch.setattr(DistillTrainer, "_compute_loss", watched)
    run = Run(tenant, base, tmp_path, steps=2, batch_size=16, micro_batch_size=4, examples_per_schema=4)
    run.trainer().train()
    assert learned == [[row] * 4 for row in range(4)] * 2


def test_with_a_hint_there_is_something_to_learn(tenant: Tenant, base: Path, tmp_path: Path) -> None:
    trainer = Run(tenant, base, tmp_path, steps=1).trainer()
    trainer.train()
    assert trainer.state.log_history[0]["loss"] > 1e-3


@pytest.mark.usefixtures("either_way_of_reading")
@pytest.mark.parametrize("divergence", list(DivergenceKind))
def test_the_loss_is_the_full_vocabulary_divergence_over_unskipped_tokens(
    divergence: DivergenceKind, tenant: Tenant, base: Path, tmp_path: Path
) -> None:
    run = Run(tenant, base, tmp_path, divergence=divergence, skip_tokens=2, micro_batch_size=4)
    trainer = run.trainer()
    inputs = first_four(trainer)
    assert inputs["loss_mask"][:, :2].sum() == 0
    assert torch.equal(inputs["loss_mask"][:, 2:], inputs["completion_mask"][:, 2:])
    loss, _, _ = trainer._compute_loss(run.loaded.model, inputs, inputs["num_items_in_batch"])
    length = inputs["completion_ids"].size(1)

    def logps(who: str) -> torch.Tensor:
        ids = torch.cat([inputs[f"{who}prompt_ids"], inputs["completion_ids"]], 1)
        mask = torch.cat([inputs[f"{who}prompt_mask"], inputs["completion_mask"]], 1)
        logits = run.loaded.model(input_ids=ids, attention_mask=mask).logits
        return logits[:, -length - 1 : -1].log_softmax(-1)

    student = logps("")
    run.loaded.model.set_adapter(TEACHER)
    teacher = logps("teacher_")
    wanted = per_token(divergence, student, teacher)[inputs["loss_mask"].bool()].mean()
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-3)


@both_tunings
def test_the_teacher_follows_in_fp32_and_exactly(
    tuning: str, tenant: Tenant, base: Path, tmp_path: Path
) -> None:
    run = Run(tenant, base, tmp_path, tuning=tuning, steps=1, ema_rate=0.25, checkpoint_every=50)
    before = run.weights(TEACHER)
    run.trainer().train()
    student, after = run.weights("default"), run.weights(TEACHER)
    moved = 0.0
    for name, old in before.items():
        new = after[name]
        assert new.dtype is torch.float32
        torch.testing.assert_close(new, old.lerp(student[name.replace(TEACHER, "default")], 0.25))
        moved += (new - old).abs().sum().item()
    assert moved > 0


def test_the_average_of_a_bf16_student_arrives_where_one_in_bf16_would_stall(
    tenant: Tenant, base: Path, tmp_path: Path
) -> None:
    """A step of the average is a hundredth of a step of the student, which bf16 rounds to nothing."""
    model = Run(tenant, base, tmp_path, teacher="live").loaded.model.to(torch.bfloat16)
    add_teacher(model)
    assert {teacher.dtype for _, teacher in pairs(model)} == {torch.float32}
    before = [teacher.detach().clone() for _, teacher in pairs(model)]
    with torch.no_grad():
        for student, _ in pairs(model):
            student.mul_(1 + 2**-7)  # the smallest that bf16 can hold
    follow, state = Follow(model, 0.01), TrainerState()
    for _ in range(600):
        follow.on_step_end(TrainingArguments(str(tmp_path)), state, TrainerControl())
    for (student, teacher), old in zip(pairs(model), before, strict=True):
        way = student.float() - old
        torch.testing.assert_close(teacher - old, way * (1 - 0.99**600), rtol=1e-3, atol=1e-7)
    assert any((student.float() != old).any() for (student, _), old in zip(pairs(model), before, strict=True))


@both_tunings
def test_a_resumed_run_restores_student_and_teacher_exactly_and_ends_like_an_unbroken_one(
    tuning: str, tenant: Tenant, base: Path, tmp_path: Path
) -> None:
    unbroken = Run(tenant, base, tmp_path, tuning=tuning)
    unbroken.trainer().train()
    checkpoint = tmp_path / "checkpoints" / "checkpoint-2"
    resumed = Run(tenant, base, tmp_path, tuning=tuning)
    trainer = resumed.trainer()
    trainer._load_from_checkpoint(str(checkpoint))
    at_two = {adapter: resumed.weights(adapter) for adapter in ("default", TEACHER)}
    assert not all(
        torch.equal(at_two["default"][n.replace(TEACHER, "default")], w) for n, w in at_two[TEACHER].items()
    )
    trainer.train(resume_from_checkpoint=str(checkpoint))
    for adapter in ("default", TEACHER):
        for name, wanted in unbroken.weights(adapter).items():
            torch.testing.assert_close(resumed.weights(adapter)[name], wanted, rtol=1e-4, atol=1e-5)


def test_only_a_whole_checkpoint_of_the_same_manifest_is_resumed_from(
    tenant: Tenant, base: Path, tmp_path: Path
) -> None:
    run = Run(tenant, base, tmp_path)
    run.trainer().train()
    found = latest_checkpoint(tmp_path, run.manifest.sha256)
    assert found is not None and found.name == "checkpoint-4"
    (found / "complete.json").unlink()
    again = latest_checkpoint(tmp_path, run.manifest.sha256)
    assert again is not None and again.name == "checkpoint-2"
    assert latest_checkpoint(tmp_path, "another") is None


def test_a_gradient_that_is_not_finite_stops_the_stage_before_the_step(
    tenant: Tenant, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tenant, base, tmp_path)
    trainer = run.trainer()
    before = run.weights("default")
    real = trainer._compute_loss

    def broken(*args: Any) -> Any:
        loss, *rest = real(*args)
        return loss * float("nan"), *rest

    monkeypatch.setattr(trainer, "_compute_loss", broken)
    with pytest.raises(StageFailed, match="not finite") as failure:
        trainer.train()
    assert failure.value.code == "non_finite_loss"
    assert all(torch.equal(before[name], weight) for name, weight in run.weights("default").items())
