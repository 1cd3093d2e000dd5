"""RL on the tiny model: what a stage logs, when it ends, what it asks, and what a teacher adds to the advantages."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from tests.training.shop import Tenant
from training.artifacts import Finished
from training.config import Rl, StageManifest
from training.data.rewards import PAIR, paired_bonus
from training.engine.progress import EventWriter
from training.engine.trainer import Watch
from training.stages import rl

pytestmark = pytest.mark.slow  # trains

SETTINGS = {
    "kind": "rl",
    "steps": 4,
    "batch_size": 8,
    "micro_batch_size": 8,
    "generations": 4,
    "max_new_tokens": 40,
    "precision": "fp32",
    "learning_rate": 1e-3,
    "warmup_steps": 0,
    "checkpoint_every": 2,
    "beta": 0.0,
    "lora": {"rank": 4, "alpha": 8},
}


class Ran:
    def __init__(self, out: Path, finished: Finished):
        self.out, self.metrics, self.step, self.tokens = out, finished.metrics, finished.step, finished.tokens

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        return dict(load_file(self.out / "adapter" / "adapter_model.safetensors"))

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.out / "events.jsonl").read_text().splitlines()]


class Bench:
    def __init__(self, tenant: Tenant, base: Path, root: Path):
        self.tenant, self.base, self.root = tenant, base, root

    def manifest(self, name: str, **settings: Any) -> StageManifest:
        (self.root / name).mkdir(exist_ok=True)
        return StageManifest.model_validate(
            {
                "stage": SETTINGS | settings,
                "base": str(self.base),
                "category_schema": self.tenant.schema,
                "conversations": str(self.tenant.path),
                "out": str(self.root / name),
            }
        )

    def run(self, name: str, **settings: Any) -> Ran:
        manifest = self.manifest(name, **settings)
        assert isinstance(manifest.stage, Rl)
        return Ran(manifest.out, rl.run(manifest, manifest.stage, EventWriter(manifest.out, "rl")))


@pytest.fixture
def bench(tenant: Tenant, base: Path, tmp_path: Path) -> Bench:
    return Bench(tenant, base, tmp_path)


def test_a_pair_pays_the_right_ones_by_how_well_the_other_schema_goes() -> None:
    examples = [0, 0, 1, 1, 4, 4, 5, 5]
    right = [True, False, True, True, True, True, False, False]
    half = PAIR / 2
    assert paired_bonus(examples, right) == [PAIR, 0, half, half, 0, 0, 0, 0]


def test_a_conversation_of_a_pair_is_the_same_under_two_schemas(bench: Bench) -> None:
    manifest = bench.manifest("pairs", pairs=True)
    assert isinstance(manifest.stage, Rl)
    loaded = rl.load(manifest, manifest.stage)
    examples = rl.examples_of(manifest, manifest.stage, loaded)
    assert len(examples) == manifest.stage.prompts
    for one, other in zip(examples[::2], examples[1::2], strict=True):
        assert one.conversation is other.conversation and one.schema == manifest.category_schema
    assert any(one.schema != other.schema for one, other in zip(examples[::2], examples[1::2], strict=True))


def test_every_step_says_how_answers_spread(bench: Bench) -> None:
    ran = bench.run("plain", pairs=True, steps=2)
    steps = [event for event in ran.events if event["event"] == "metric"]
    assert len(steps) == 2
    for name in ("entropy", "reward_std", "label_accuracy", "top_answer_share", "paired_bonus"):
        assert all(step[name] is not None for step in steps), name


def test_answers_are_counted_by_what_they_say_and_not_by_their_words(bench: Bench) -> None:
    manifest = bench.manifest("rewarder")
    assert isinstance(manifest.stage, Rl)
    loaded = rl.load(manifest, manifest.stage)
    [example, *_] = rl.examples_of(manifest, manifest.stage, loaded)
    wrong = next(code for code in example.prompt.codes if code != example.gold_code)
    texts = [
        f"Sure.\nAnswer: {example.gold_code}",
        f"Well.\nAnswer: {example.gold_code}",
        f"No.\nAnswer: {wrong}",
        "?",
    ]
    said: dict[str, float] = {}
    rewarder = rl.Rewarder([example], loaded, pairs=False)
    turns = [[{"content": text}] for text in texts]
    rewards = rewarder(turns, [[loaded.tokenizer.eos_token_id]] * 4, [0] * 4, said.__setitem__)
    assert (said["label_accuracy"], said["top_answer_share"]) == (0.5, 0.5)
    assert rewarder.right == [True, True, False, False]
    assert rewards[0] == rewards[1] > rewards[2] > rewards[3] == 0.0


def test_the_stage_ends_where_the_budget_is_spent(bench: Bench) -> None:
    ran = bench.run("budget", kl_budget=1e-9, learning_rate=1e-2, beta=0.0)
    assert ran.metrics["stopped_by"] == "kl_budget"
    spent = [event["kl_to_base"] for event in ran.events if event["event"] == "metric"]
    assert ran.step == len(spent) == next(n for n, nats in enumerate(spent, 1) if nats > 1e-9)
    assert spent[0] == 0  # the first step's rollouts are those of the base itself
    rich = bench.run("rich", kl_budget=100.0)
    assert (rich.metrics["stopped_by"], rich.step) == ("steps", 4)


@pytest.mark.parametrize("teacher_on", ["all", "failed"])
def test_the_teacher_helps_token_by_token_where_it_is_asked_to(
    teacher_on: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[bool]]] = []
    real = rl.RlTrainer._help

    def watched(self: Any, model: Any, out: Any, student_BT: Any) -> None:
        before = out["advantages"].clone()
        real(self, model, out, student_BT)
        counts = out["completion_mask"].any(1)  # one that was cut off teaches nothing
        seen.append((before, out["advantages"], counts, list(self._rewarder.right)))

    monkeypatch.setattr(rl.RlTrainer, "_help", watched)
    ran = bench.run("teacher", teacher_weight=0.5, teacher_on=teacher_on, steps=2)
    assert ran.step == 2 and len(seen) == 2
    for before, after, counts, right in seen:
        added = after - before[:, None]
        assert added.abs().max() <= 0.5 * rl.RATIO_CAP + 1e-6
        groups = torch.tensor(right).view(-1, 4).any(1).repeat_interleave(4)
        if teacher_on == "failed":
            assert added[groups].abs().sum() == 0
            assert groups.all() or added[~groups].abs().sum() > 0
        else:
            assert counts.any() and added[counts].abs().sum(1).min() > 0


def test_a_teacher_without_a_hint_adds_nothing(bench: Bench) -> None:
    plain, helped = bench.run("plain"), bench.run("none", teacher_weight=1.0, teacher_on="all", hint="none")
    for name, wanted in plain.weights.items():
        torch.testing.assert_close(helped.weights[name], wanted, rtol=1e-4, atol=1e-6)


def test_groups_are_learned_whole_and_each_update_has_those_that_fell_to_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """trl shuffles the four groups of a generation over both updates; a group's prompt is read where it is whole."""
    learned: list[list[int]] = []
    real = rl.RlTrainer._compute_loss

    def watched(self: Any, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        learned.append(inputs["row"].tolist())
        return real(self, model, inputs)

    monkeypatch.setattr(rl.RlTrainer, "_compute_loss", watched)
    bench.run("once", steps=1, batch_size=16, micro_batch_size=4)
    assert learned == [[0] * 4, [1] * 4, [2] * 4, [3] * 4]
    learned.clear()
    bench.run("twice", steps=2, batch_size=16, micro_batch_size=4, updates_per_generation=2)
    updates = [[row for batch in learned[start : start + 4] for row in batch] for start in (0, 4)]
    assert all(update == sorted(update) for update in updates)
    assert sorted(updates[0] + updates[1]) == [row for row in range(8) for _ in range(4)]
    assert all(len(set(update)) > 4 for update in updates)


class _Checked(Exception):
    pass


def test_advantages_of_tokens_count_one_by_one_under_the_ratio_of_their_sequence(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under the ratio of a sequence alone these, whose mean is 0, would have no gradient."""
    real = rl.RlTrainer._compute_loss

    def checked(self: Any, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        ids_BL = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
        mask_BT = torch.zeros_like(inputs["completion_mask"])
        mask_BT[:, :5] = 1
        width, weights = mask_BT.size(1), [p for p in model.parameters() if p.requires_grad]
        attention_BL = torch.cat([inputs["prompt_mask"], torch.ones_like(mask_BT)], 1)
        logps_BT = self._get_per_token_logps_and_entropies(model, ids_BL, attention_BL, width)[0]
        old_BT = logps_BT.detach() - 0.02 * torch.rand_like(logps_BT)
        advantages_BT = torch.zeros_like(logps_BT)
        advantages_BT[:, :5] = torch.tensor([5.0, -5.0, 0.0, 1.0, -1.0])
        ratio_B = ((logps_BT.detach() - old_BT) * mask_BT).sum(1).div(5).exp()
        wanted = -((advantages_BT * logps_BT).sum(1) / 5 * ratio_B).mean()
        changed = {"completion_mask": mask_BT, "old_per_token_logps": old_BT, "advantages": advantages_BT}
        loss = real(self, model, inputs | changed) * self.current_gradient_accumulation_steps
        found = torch.autograd.grad(loss, weights, allow_unused=True)
        for one, other in zip(found, torch.autograd.grad(wanted, weights, allow_unused=True), strict=True):
            if other is not None:
                torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
        assert max(float(one.abs().max()) for one in found if one is not None) > 1e-2
        raise _Checked

    monkeypatch.setattr(rl.RlTrainer, "_compute_loss", checked)
    with pytest.raises(_Checked):
        bench.run("gspo", importance_sampling="sequence", loss="grpo", updates_per_generation=2)


@pytest.mark.parametrize(
    ("loss", "scale"), [("dapo", "batch"), ("grpo", "group"), ("dr_grpo", "none"), ("bnpo", "group")]
)
def test_rewards_are_scaled_as_the_loss_was_published(loss: str, scale: str, bench: Bench) -> None:
    manifest = bench.manifest("scaled", loss=loss)
    assert isinstance(manifest.stage, Rl)
    assert rl.config_of(manifest, manifest.stage).scale_rewards == scale


@pytest.mark.parametrize(("count", "accumulation"), [(1, 4), (2, 2), (4, 1)])
def test_however_many_processes_a_generation_has_as_many_optimizer_steps(
    count: int, accumulation: int, tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With twice as many in each of two processes the second step would learn from what is no longer the student's."""
    monkeypatch.setattr("training.engine.processes.count", lambda: count)
    of = {"batch_size": 16, "micro_batch_size": 4, "updates_per_generation": 2}
    manifest = Bench(tenant, Path("nowhere"), tmp_path).manifest("processes", **of)
    assert isinstance(manifest.stage, Rl)
    config = rl.config_of(manifest, manifest.stage)
    assert config.gradient_accumulation_steps == accumulation
    assert config.steps_per_generation == 2 * accumulation


def test_prompts_are_chosen_by_difficulty_in_each_round(bench: Bench) -> None:
    ran = bench.run("rounds", rounds=2, tries=4)
    rounds = [json.loads((ran.out / "rounds" / f"{n}.json").read_text()) for n in range(2)]
    assert len({n for one in rounds for n in one["chosen"]}) == 8  # two groups a step, four steps, none twice
    for one in rounds:
        useful = [int(n) for n, rate in one["rates"].items() if 0.25 <= rate <= 0.75]
        assert one["useful"] == len(useful)
        wanted = min(len(useful), len(one["chosen"]))
        assert len(set(useful) & set(one["chosen"])) == wanted
        rest = [one["rates"][str(n)] for n in one["chosen"] if n not in useful]
        assert rest == sorted(rest)
    assert [e["message"] for e in ran.events if "neither always nor never" in e["message"]]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"rounds": 2, "tries": 4, "pairs": True, "teacher_weight": 0.5},
        {"updates_per_generation": 2},
        {"tuning": "full", "kl_budget": 100.0},
    ],
    ids=["plain", "rounds, pairs and a teacher", "two updates", "every weight"],
)
def test_a_stage_that_died_ends_as_one_that_did_not(
    settings: dict[str, Any], bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbroken = bench.run("unbroken", **settings)
    real = Watch.on_step_end

    def dies(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 3:
            raise KeyboardInterrupt
        real(self, args, state, control, **kwargs)

    monkeypatch.setattr(Watch, "on_step_end", dies)
    with pytest.raises(KeyboardInterrupt):
        bench.run("broken", **settings)
    monkeypatch.setattr(Watch, "on_step_end", real)
    resumed = bench.run("broken", **settings)
    assert any(e["message"] == "resuming from checkpoint-2" for e in resumed.events)
    assert resumed.tokens == unbroken.tokens > 0
    for name, wanted in unbroken.weights.items():
        torch.testing.assert_close(resumed.weights[name], wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"pairs": True, "perturb": False}, "pairs: they need perturb"),
        ({"pairs": True, "batch_size": 4, "micro_batch_size": 4}, "an even number of prompts"),
        ({"updates_per_generation": 3}, "multiple of updates_per_generation"),
        ({"rounds": 5}, "a round is at least one generation"),
        ({"teacher_weight": 1.0, "hint": "demonstration"}, "no traces to demonstrate with"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(
    settings: dict[str, Any], said: str, bench: Bench
) -> None:
    with pytest.raises(ValidationError, match=said):
        bench.manifest("refused", **settings)
