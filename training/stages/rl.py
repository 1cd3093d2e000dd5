"""RL with a verifiable reward: the student writes several answers, and those better than their group are made likelier.

GRPO on perturbed schemas. The label is known under every perturbation (contract.perturb), so the reward needs no
judge: 1 for the right code, and a tenth each for form and for true quotation. Nothing here imitates a teacher, which
is how this stage gets past the teacher's errors; and because every prompt shuffles, renames or swaps the categories
and draws its codes anew, only reading the definitions pays. Starting from the distilled student rather than from the
base matters: a group in which nobody is right teaches nothing.

`dapo` counts every token of the batch alike, rewards are scaled by the batch (a group of nearly equal rewards would
otherwise be blown up), completions that were cut off are masked, and a small KL holds on to the student this stage
began with. Left out, for later issues: a filter by difficulty, paired groups under S and S_p, a teacher's log-ratio
in the advantage.

Built on trl 1.16.0's GRPOTrainer. Two private methods are replaced for speed, sampling and scoring, because a group
shares its long prompt; tests hold both to what they replace.
"""

import random
from itertools import islice
from typing import Any

from datasets import Dataset
from torch import Tensor
from trl import GRPOConfig, GRPOTrainer

from training.artifacts import Finished
from training.config import Rl, StageManifest
from training.data import Example, balanced, make_example, read_labelled
from training.learning import KeepsAdapters, Watch, fit, trainer_arguments
from training.model import Loaded, check_fits, code_pool, load, prompt_tokens, uses_bf16
from training.progress import Events
from training.rewards import Reward, reward
from training.rollouts import Sampling, sample_repeated
from training.shared_prefix import score

_REMEDY = "shorten definitions, lower max_new_tokens or use a base model with a longer context"


def run(manifest: StageManifest, stage: Rl, events: Events) -> Finished:
    rng = random.Random(manifest.seed)
    schema = manifest.category_schema
    labelled = read_labelled(manifest.conversations, schema).conversations
    loaded = load(manifest.base, manifest.adapter, stage.lora, manifest.seed)
    pool = code_pool(loaded.tokenizer, len(schema.answers))
    chosen = islice(balanced(labelled, rng), stage.steps * stage.batch_size // stage.generations)
    examples = [make_example(c, schema, pool, rng, stage.perturb) for c in chosen]
    longest = max(len(prompt_tokens(loaded.tokenizer, e.prompt.messages)) for e in examples)
    check_fits(loaded.model, longest, stage.max_new_tokens, _REMEDY)
    rows = [{"prompt": e.prompt.messages, "example": n} for n, e in enumerate(examples)]
    watch = Watch(manifest, stage, events)
    trainer = Trainer(
        stage=stage,
        model=loaded.model,
        args=_config(manifest, stage),
        reward_funcs=Rewarder(examples, loaded),
        train_dataset=Dataset.from_list(rows),
        processing_class=loaded.tokenizer,
    )
    finished = fit(trainer, manifest, watch, events)
    return finished._replace(metrics={**finished.metrics, "prompts": len(rows)})


def _config(manifest: StageManifest, stage: Rl) -> GRPOConfig:
    return GRPOConfig(
        **trainer_arguments(manifest, stage, stage.steps),
        lr_scheduler_type="constant_with_warmup",
        num_generations=stage.generations,
        max_completion_length=stage.max_new_tokens,
        loss_type=stage.loss,
        importance_sampling_level=stage.importance_sampling,
        beta=stage.beta,
        scale_rewards="batch",
        mask_truncated_completions=True,
        temperature=1.0,
        shuffle_dataset=False,
    )


class Rewarder:
    """trl's way to call a reward: the row's example comes back by its number."""

    __name__ = "verifiable"

    def __init__(self, examples: list[Example], loaded: Loaded):
        self._examples, self._eos = examples, loaded.tokenizer.eos_token_id

    def __call__(
        self,
        completions: list[Any],
        completion_ids: list[list[int]],
        example: list[int],
        log_metric: Any,
        **_: Any,
    ) -> list[float]:
        rewards = [
            self._reward(turn[0]["content"], ids, self._examples[n])
            for turn, ids, n in zip(completions, completion_ids, example, strict=True)
        ]
        log_metric("label_accuracy", sum(r.label > 0 for r in rewards) / len(rewards))
        return [r.total for r in rewards]

    def _reward(self, text: str, ids: list[int], example: Example) -> Reward:
        return reward(
            text,
            example.schema,
            example.prompt.codes,
            example.conversation,
            example.gold,
            truncated=ids[-1] != self._eos,
        )


class Trainer(KeepsAdapters, GRPOTrainer):
    def __init__(self, stage: Rl, **kwargs: Any):
        self._sampling = Sampling(1.0, stage.max_new_tokens, stage.batch_size, uses_bf16(stage.precision))
        super().__init__(**kwargs)

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], *args: Any, **kwargs: Any
    ) -> tuple[list[list[int]], None]:
        model = self.accelerator.unwrap_model(self.model)
        pad = self.processing_class.pad_token_id
        return sample_repeated(model, prompt_ids, self._sampling, self.eos_token_ids, pad), None

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        *args: Any,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None, None]:
        cut = input_ids.size(1) - logits_to_keep
        with self.accelerator.autocast():
            scored = score(
                self.accelerator.unwrap_model(model),
                input_ids[:, :cut],
                attention_mask[:, :cut],
                input_ids[:, cut:],
                attention_mask[:, cut:],
                self.temperature,
            )
        return scored.logps_BT, scored.entropies_BT, None
