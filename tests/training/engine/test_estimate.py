"""What a run is said to cost follows from its settings, and from a probe of the real base."""

import json
from pathlib import Path

import pytest

from evaluation.contract.mode import Mode
from tests.training.shop import Tenant
from training.artifacts import StageFailed
from training.config import Distill, Rl, Sft, Stage, StageManifest, Traces
from training.engine.estimate import ANSWER, ModelShape, Pace, Work, _cost, _work, estimate
from training.teachers.privileged import HintKind

SHAPE = ModelShape(schema=600, own=20.0, longest=50, labelled=400)


def manifest(stage: Stage, tenant: Tenant, base: Path | str = "none") -> StageManifest:
    return StageManifest(
        stage=stage,
        base=str(base),
        category_schema=tenant.schema,
        conversations=tenant.path,
        traces=Path("traces.jsonl"),
        out=Path("out"),
    )


def work(stage: Stage, tenant: Tenant, *before: Stage) -> Work:
    manifests = [manifest(one, tenant) for one in (*before, stage)]
    return _work(manifests[-1], manifests, SHAPE)


def test_a_schema_is_counted_once_for_those_that_share_it(tenant: Tenant) -> None:
    stage = Sft(batch_size=16, micro_batch_size=8, examples_per_schema=8, max_steps=10, at_once=0)
    assert work(stage, tenant).learned == 10 * (2 * 600 + 16 * (20 + ANSWER))
    assert work(stage, tenant).at_once == 600 + 8 * (50 + ANSWER)
    wide = stage.model_copy(update={"micro_batch_size": 16})
    assert work(wide, tenant).at_once == 2 * 600 + 16 * (50 + ANSWER)


def test_labels_at_once_are_part_of_an_epoch_and_cost_little(tenant: Tenant, tmp_path: Path) -> None:
    brought = tmp_path / "brought.jsonl"
    brought.write_text('{"id": "a"}\n' * 100)
    alone = Traces(files=(brought,), teachers=())
    stage = Sft(batch_size=10, micro_batch_size=10, examples_per_schema=10, epochs=1, at_once=0)
    both = stage.model_copy(update={"at_once": 0.5})
    assert work(stage, tenant, alone).learned == 10 * 600 + 100 * (20 + ANSWER)
    assert work(both, tenant, alone).learned == pytest.approx(50 * 600 + 500 * (20 + (ANSWER + 3) / 2))


def test_an_experts_trace_is_not_asked_of_a_teacher(tenant: Tenant, tmp_path: Path) -> None:
    brought = tmp_path / "brought.jsonl"
    brought.write_text('{"id": "a"}\n' * 100)
    asked = Traces(files=(brought,), limit=120, samples=2)
    assert work(asked, tenant).written == 20 * 2 * ANSWER
    assert work(Traces(files=(brought,), teachers=()), tenant) == Work()
    assert work(Traces(samples=2), tenant).written == 400 * 2 * ANSWER


def test_what_is_learned_under_no_schema_is_counted_from_its_file(tenant: Tenant, tmp_path: Path) -> None:
    rows = [
        {"id": "a", "messages": [{"role": "user", "content": "x" * 40}], "response": "y" * 20},
        {"id": "b", "messages": [{"role": "user", "content": "x" * 80}], "response": "y" * 60},
    ]
    prompts, texts, contexts = (tmp_path / name for name in ("prompts", "texts", "contexts"))
    prompts.write_text("\n".join(map(json.dumps, rows)))
    texts.write_text(json.dumps({"text": "z" * 400}))
    contexts.write_text("\n".join(json.dumps({"id": key, "text": "k" * 120}) for key in "ab"))
    batch = {"batch_size": 4, "micro_batch_size": 2}
    assert work(Sft(prompts=prompts, max_steps=3, **batch), tenant).learned == 3 * 4 * (12 + 25)
    assert work(Sft(text=texts, epochs=8, **batch), tenant).learned == 2 * 4 * 100
    shown = Distill(prompts=prompts, contexts=contexts, hint="document", steps=3, max_new_tokens=16, **batch)
    found = work(shown, tenant)
    assert found.written == 3 * 4 * 16
    assert found.learned == 3 * 4 * (12 + 15 + 16)  # what the student writes, and no response of the file
    assert found.read == 3 * 4 * (2 * (12 + 15) + 30 + 16)
    with pytest.raises(StageFailed, match="cannot be read"):
        work(Sft(text=tmp_path / "gone", **batch), tenant)


def test_every_rollout_is_written_and_learned(tenant: Tenant) -> None:
    rl = work(Rl(steps=5, batch_size=16, micro_batch_size=8, generations=8, beta=0), tenant)
    assert rl.written == 5 * 16 * ANSWER
    assert rl.learned == 5 * (2 * 620 + 16 * ANSWER)
    distill = Distill(steps=5, batch_size=16, micro_batch_size=8, examples_per_schema=8)
    assert work(distill, tenant).written == 5 * 16 * ANSWER
    assert (
        work(distill.model_copy(update={"on_policy": False, "hint": HintKind.criterion}), tenant).written == 0
    )


def test_max_seconds_bounds_what_is_said() -> None:
    pace = Pace(read=400, learn=100, write=100, start_s=12, loaded=None, token=None)
    long = Work(learned=60_000)
    assert _cost(long, pace, None)["minutes"] == 10.2
    assert (_cost(long, pace, 300)["minutes"], _cost(long, pace, 300)["bounded"]) == (5.2, True)
    assert not _cost(long, pace, 1e6)["bounded"]


def test_the_probe_measures_the_base(tenant: Tenant, base: Path) -> None:
    stages: list[Stage] = [Traces(limit=8), Sft(max_steps=1), Distill(steps=1), Rl(steps=1)]
    found = estimate([manifest(stage, tenant, base) for stage in stages], evaluated=100)
    assert [one["stage"] for one in found["stages"]] == ["traces", "sft", "distill", "rl", "evaluation"]
    probe = found["probe"]
    assert 0 < probe["learned_tokens_per_s"] < probe["read_tokens_per_s"]
    assert probe["written_tokens_per_s"] > 0
    assert found["stages"][-1]["tokens"]["written"] == 100 * ANSWER
    fast = estimate([manifest(stages[1], tenant, base)], evaluated=100, mode=Mode.fast)
    assert fast["stages"][-1]["tokens"]["written"] == 100, "a code is one token"
    assert found["minutes"] == pytest.approx(sum(one["minutes"] for one in found["stages"]), abs=0.5)
    assert found["memory_bytes"] > 0 and found["machine"]["cores"] >= 1
