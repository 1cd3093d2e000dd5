"""RL with a verifiable reward: the student writes several answers, and those better than their group are made likelier.

GRPO on perturbed schemas. The label is known under every perturbation (contract.perturb), so the reward needs no
judge: 1 for the right code, and a tenth each for form and for true quotation. Nothing here imitates a teacher, which
is how this stage gets past the teacher's errors; and because every prompt shuffles, renames or swaps the categories
and draws its codes anew, only reading the definitions pays. Starting from the distilled student rather than from the
base matters: a group in which nobody is right teaches nothing.

`dapo` counts every token of the batch alike, rewards are scaled by the batch (a group of nearly equal rewards would
otherwise be blown up; the other losses scale as they were published), completions that were cut off are masked, and a
small KL holds on to the student this stage began with.

Options: a conversation under the schema and under a perturbed one, with a bonus where both are right (`pairs`); prompts
of middling difficulty, chosen anew in rounds (see `curriculum`); and a teacher, the student itself shown the least
hint, whose log-ratio to the student is added to the advantage of each token (`teacher_weight`). In groups that never
succeed, which teach nothing by their rewards, that is on-policy distillation by the reverse KL.

Built on trl 1.16.0's GRPOTrainer. Two private methods are replaced for speed, sampling and scoring, because a group
shares its long prompt; tests hold both to what they replace. Ratios of sequences are GSPO-token's, because advantages
differ from token to token wherever a teacher or another sampler has a word in them.
"""

import random
from collections import Counter
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from trl import GRPOConfig, GRPOTrainer
from trl.models.utils import _ForwardRedirection

from evaluation.contract.parse import parse
from evaluation.contract.render import ChatMessage
from training.artifacts import Finished, StageFailed
from training.config import Rl, StageManifest
from training.data.curriculum import CANDIDATES, Curriculum
from training.data.examples import Example, drawn, hint_for, make_example, read_labelled, read_left_out
from training.data.rewards import Reward, paired_bonus, reward
from training.engine import processes
from training.engine.head import check_head
from training.engine.losses import drawn_as_sequences, importance_weights
from training.engine.model import Loaded, check_fits, code_pool, load, prompt_tokens
from training.engine.padding import left_padded
from training.engine.progress import EventWriter
from training.engine.trainer import KeepsAdapters, Watch, fit, trainer_arguments
from training.generation.prefix.scoring import score
from training.generation.samplers import VllmSampler, Writes, chosen, sampling_of
from training.protocol import FailureCode
from training.teachers.privileged import with_hint

RATIO_CAP = 5.0  # nats: one token that the teacher finds absurd must not outweigh all others
_REMEDY = "shorten definitions, lower max_new_tokens or use a base model with a longer context"


def run(manifest: StageManifest, stage: Rl, events: EventWriter) -> Finished:
    _check_share(stage)
    loaded = load(manifest, stage)
    check_head(loaded.model)
    curriculum = Curriculum(examples_of(manifest, stage, loaded), manifest, stage, loaded)
    longest = max(len(prompt_tokens(loaded.tokenizer, _asked(e, stage))) for e in curriculum.examples)
    check_fits(loaded.model, longest, stage.max_new_tokens, _REMEDY)
    watch = Watch(manifest, stage, events)
    rewarder = Rewarder(curriculum.examples, loaded, stage.pairs)
    trainer = RlTrainer(
        stage=stage,
        rewarder=rewarder,
        watch=watch,
        vllm=chosen(manifest, stage, loaded.model, longest, events),
        model=loaded.model,
        args=config_of(manifest, stage),
        reward_funcs=rewarder,
        train_dataset=curriculum.dataset(events, watch),
        processing_class=loaded.tokenizer,
    )
    finished = fit(trainer, manifest, watch, events)
    return finished._replace(metrics=finished.metrics | {"prompts": stage.prompts} | curriculum.metrics)


def _check_share(stage: Rl) -> None:
    """Raises: StageFailed where a process would see a part of what belongs together."""
    share = stage.batch_size * stage.updates_per_generation // processes.count()
    together = stage.generations * (2 if stage.pairs else 1)
    if (stage.pairs or stage.teacher_weight) and share % together:
        raise StageFailed(
            FailureCode.unfit_settings,
            f"each of {processes.count()} processes has {share} completions of a generation, and {together} belong "
            "together; raise batch_size",
        )


def examples_of(manifest: StageManifest, stage: Rl, loaded: Loaded) -> list[Example]:
    """As many as the steps take, and several times as many where they are chosen among. A pair stands together."""
    rng, schema = random.Random(manifest.seed), manifest.category_schema
    left_out = read_left_out(manifest.traces)
    labelled = read_labelled(manifest.conversations, schema, left_out).conversations
    pool = code_pool(loaded.tokenizer, len(schema.answers))
    wanted = stage.prompts * (CANDIDATES if stage.rounds else 1)
    if not stage.pairs:
        chosen = islice(drawn(labelled, stage.balance, rng), wanted)
        return [make_example(c, schema, pool, rng, stage.perturb) for c in chosen]
    chosen = islice(drawn(labelled, stage.balance, rng), wanted // 2)
    return [make_example(c, schema, pool, rng, perturb) for c in chosen for perturb in (False, True)]


def _asked(example: Example, stage: Rl) -> list[ChatMessage]:
    """The longest prompt that is made of it."""
    return (
        with_hint(example.prompt, hint_for(example, stage.hint))
        if stage.teacher_weight
        else example.prompt.messages
    )


# As each loss was published: DAPO's variant over the batch, Dr. GRPO's finding that dividing biases, else the group.
_SCALES = {"dapo": "batch", "dr_grpo": "none"}


def config_of(manifest: StageManifest, stage: Rl) -> GRPOConfig:
    arguments = trainer_arguments(manifest, stage, stage.steps)
    return GRPOConfig(
        **arguments,
        num_generations=stage.generations,
        steps_per_generation=arguments["gradient_accumulation_steps"] * stage.updates_per_generation,
        max_completion_length=stage.max_new_tokens,
        loss_type=stage.loss,
        importance_sampling_level="token",  # a sequence's ratio comes in through `drawn_as_sequences`
        epsilon=stage.epsilon,
        epsilon_high=stage.epsilon_high,
        beta=stage.beta,
        scale_rewards=_SCALES.get(stage.loss, "group"),
        mask_truncated_completions=True,
        temperature=1.0,
        shuffle_dataset=False,
    )


class Rewarder:
    """trl's way to call a reward: the row's example comes back by its number. right: of the last call's completions."""

    __name__ = "verifiable"

    def __init__(self, examples: list[Example], loaded: Loaded, pairs: bool):
        self.examples, self._pairs, self._eos = examples, pairs, loaded.tokenizer.eos_token_id
        self.right: list[bool] = []
        self.numbers: list[int] = []

    def __call__(
        self,
        completions: list[Any],
        completion_ids: list[list[int]],
        example: list[int],
        log_metric: Any,
        **_: Any,
    ) -> list[float]:
        rewards = [
            self._reward(turn[0]["content"], ids, self.examples[n])
            for turn, ids, n in zip(completions, completion_ids, example, strict=True)
        ]
        self.right, self.numbers = [r.label > 0 for r in rewards], example
        log_metric("label_accuracy", sum(self.right) / len(rewards))
        answers = [
            self._answer(turn[0]["content"], self.examples[n])
            for turn, n in zip(completions, example, strict=True)
        ]
        log_metric("top_answer_share", Counter(answers).most_common(1)[0][1] / len(answers))
        if not self._pairs:
            return [r.total for r in rewards]
        bonus = paired_bonus(example, self.right)
        log_metric("paired_bonus", sum(bonus) / len(bonus))
        return [r.total + extra for r, extra in zip(rewards, bonus, strict=True)]

    def _answer(self, text: str, example: Example) -> tuple[str | None, bool]:
        """What was answered, and whether that could be read."""
        answer = parse(text, example.schema, example.prompt.codes)
        return answer.category, answer.failure is None

    def _reward(self, text: str, ids: list[int], example: Example) -> Reward:
        return reward(
            text,
            example.schema,
            example.prompt.codes,
            example.conversation,
            example.gold,
            truncated=ids[-1] != self._eos,
        )


class RlTrainer(Writes, KeepsAdapters, GRPOTrainer):
    """Axes: B sequences, P prompt tokens (left-padded), T completion tokens."""

    def __init__(
        self, stage: Rl, rewarder: Rewarder, watch: Watch, vllm: VllmSampler | None = None, **kwargs: Any
    ):
        self._stage, self._rewarder = stage, rewarder
        self._watch = self.watch = watch
        self._redirected = _ForwardRedirection()
        self.sampling, self.vllm = sampling_of(stage), vllm
        self._learned_from: dict[str, Any] | None = None
        super().__init__(**kwargs)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        out: dict[str, Any] = super()._generate_and_score_completions(inputs)
        stage, drawn_BT = self._stage, self.drawn_logps(out["completion_ids"])
        # Of a group, whose prompt is read once wherever its sequences are learned together.
        out["row"] = torch.arange(len(out["completion_ids"])) // stage.generations
        if stage.teacher_weight == 0 and stage.kl_budget is None and drawn_BT is None:
            return out
        model = self.accelerator.unwrap_model(self.model)
        with torch.no_grad():
            student_BT = self._logps(model, out, out["prompt_ids"], out["prompt_mask"])
            if stage.teacher_weight:
                self._help(model, out, student_BT)
            if stage.kl_budget is not None:
                with model.disable_adapter():
                    base_BT = self._logps(model, out, out["prompt_ids"], out["prompt_mask"])
                self._spend(student_BT, base_BT, out["completion_mask"])
        if drawn_BT is not None:
            self._weigh(out, student_BT, drawn_BT)
        return out

    def _weigh(self, out: dict[str, Any], student_BT: Tensor, drawn_BT: Tensor) -> None:
        """A positive weight may stand at the advantage: clipping a ratio is the same with it and without."""
        mask_BT = out["completion_mask"]
        gap = ((student_BT - drawn_BT).abs() * mask_BT).sum() / mask_BT.sum().clamp(min=1)
        self._metrics["train"]["sampler_gap"].append(gap.item())
        advantages = out["advantages"]
        advantages_BT = advantages[:, None] if advantages.dim() == 1 else advantages
        out["advantages"] = advantages_BT * importance_weights(student_BT, drawn_BT)

    def _help(self, model: Any, out: dict[str, Any], student_BT: Tensor) -> None:
        """Adds the teacher's log-ratio to the advantages, which become one for each token."""
        where, pad = student_BT.device, self.processing_class.pad_token_id
        examples = [self._rewarder.examples[n] for n in self._rewarder.numbers]
        prompts = [
            prompt_tokens(self.processing_class, with_hint(e.prompt, hint_for(e, self._stage.hint)))
            for e in examples
        ]
        teacher_BT = self._logps(model, out, *left_padded(prompts, pad, where))
        right_UG = torch.tensor(self._rewarder.right, device=where).view(-1, self._stage.generations)
        failed_B = (~right_UG.any(1)).repeat_interleave(self._stage.generations)
        self._metrics["train"]["never_right"].append(failed_B.float().mean().item())
        helped_B = torch.ones_like(failed_B) if self._stage.teacher_on == "all" else failed_B
        ratio_BT = (teacher_BT - student_BT).clamp(-RATIO_CAP, RATIO_CAP) * helped_B[:, None]
        out["advantages"] = out["advantages"][:, None] + self._stage.teacher_weight * ratio_BT

    def _spend(self, student_BT: Tensor, base_BT: Tensor, mask_BT: Tensor) -> None:
        """Ends the stage after this step where the student has gone further from the base than it may."""
        spent = ((student_BT - base_BT) * mask_BT).sum() / mask_BT.sum().clamp(min=1)
        self._metrics["train"]["kl_to_base"].append(spent.item())
        if spent.item() > float(self._stage.kl_budget or 0):
            self._watch.stop("kl_budget")

    def _logps(
        self, model: Any, out: dict[str, Any], prompt_ids_BP: Tensor, prompt_mask_BP: Tensor
    ) -> Tensor:
        rows = (prompt_ids_BP, prompt_mask_BP, out["completion_ids"], out["completion_mask"])
        with self.accelerator.autocast():
            return score(model, *rows, self.temperature, self._stage.micro_batch_size).logps_BT

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        """Without old log-probabilities the responses are the student's of the moment, and every ratio is 1."""
        inputs = dict(inputs)
        if self._stage.importance_sampling == "sequence" and inputs.get("old_per_token_logps") is not None:
            self._learned_from = inputs
        loss: Tensor = super()._compute_loss(model, inputs)
        self._learned_from = None
        return loss

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], *args: Any, **kwargs: Any
    ) -> tuple[list[list[int]], None]:
        return self.write(prompt_ids), None

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None, None]:
        """batch_size: of those of a whole generation, whose probabilities nobody learns from."""
        cut = input_ids.size(1) - logits_to_keep
        plain = self.accelerator.unwrap_model(model)
        with self.accelerator.autocast():
            # Through the wrapper's forward, where there is one: that is what makes gradients meet.
            scored = self._redirected(
                model,
                plain,
                score,
                plain,
                input_ids[:, :cut],
                attention_mask[:, :cut],
                input_ids[:, cut:],
                attention_mask[:, cut:],
                self.temperature,
                batch_size,
            )
        if self._learned_from is not None:
            drawn_BT, mask_BT = (self._learned_from[n] for n in ("old_per_token_logps", "completion_mask"))
            self._learned_from["old_per_token_logps"] = drawn_as_sequences(scored.logps_BT, drawn_BT, mask_BT)
        return scored.logps_BT, scored.entropies_BT, None
