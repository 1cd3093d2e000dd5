"""The best adapter of a stage, and its end where it no longer grows better, by the validation split.

A validation asks for greedy answers under the tenant's schema and under perturbed ones, and counts the right ones:
accuracy alone would choose the adapter that has memorised the schema. It draws no random number of the training.
"""

import json
import random
import shutil
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from evaluation.contract.budget import ANSWER_TOKENS
from training.artifacts import write_json
from training.config import StageManifest
from training.data.examples import Example, balanced_choice, make_example, read_labelled
from training.data.rewards import answers_rightly
from training.engine import processes
from training.engine.model import STUDENT, Loaded, code_pool, prompt_tokens, uses_bf16
from training.engine.progress import EventWriter
from training.generation.rollouts import Sampling, sample
from training.protocol import Validated
from training.settings import Learning

if TYPE_CHECKING:
    from training.engine.trainer import Watch

_GREEDY, _ROWS = 1e-4, 64


class ValidationScore(NamedTuple):
    """Shares of right answers. score: what the best is chosen by."""

    step: int
    accuracy: float
    perturbed: float

    @property
    def score(self) -> float:
        return (self.accuracy + self.perturbed) / 2


class Validation(TrainerCallback):
    """scores: so far, in the order of their steps; those of a stage that died are read again."""

    def __init__(
        self, manifest: StageManifest, stage: Learning, loaded: Loaded, watch: "Watch", events: EventWriter
    ):
        assert (
            manifest.validation is not None and stage.validate_every is not None
        )  # the manifest's validator
        self._every, self._patience = stage.validate_every, stage.patience
        self._keeps_best = stage.keep_best
        self._loaded, self._watch, self._events = loaded, watch, events
        self._best, self._kept = manifest.out / "best", manifest.out / "validation.json"
        self._bf16 = uses_bf16(stage.precision)
        self._asked = _questions(manifest, stage, loaded)
        self.scores: list[ValidationScore] = []

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Scores from after the checkpoint are made again, with the same result."""
        if self._kept.is_file() and state.global_step:
            earlier = [ValidationScore(*score) for score in json.loads(self._kept.read_text())]
            self.scores = [score for score in earlier if score.step <= state.global_step]
        elif processes.is_first():
            shutil.rmtree(self._best, ignore_errors=True)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        last = state.global_step >= state.max_steps or control.should_training_stop
        if state.global_step % self._every and not last:
            return
        found = self._shares(kwargs["model"])
        score = ValidationScore(state.global_step, found.accuracy, found.perturbed)
        better = not self.scores or score.score > self.best.score
        if self._keeps_best and better and processes.is_first():
            kwargs["model"].save_pretrained(str(self._best), selected_adapters=[STUDENT])
        self.scores.append(score)
        if processes.is_first():
            write_json(self._kept, [list(score) for score in self.scores])
        self._events.write(
            "metric",
            step=score.step,
            total_steps=state.max_steps,
            metrics=found.as_metrics(),
        )

    @property
    def best(self) -> ValidationScore:
        """The first of the best."""
        return max(self.scores, key=lambda score: (score.score, -score.step))

    @property
    def plateau(self) -> bool:
        """So many validations were not better than the best that nobody waits for another."""
        after = [score for score in self.scores if score.step > self.best.step] if self.scores else []
        return self._patience is not None and len(after) >= self._patience

    def restore(self, model: PeftModel, step: int) -> dict[str, Any]:
        """Puts the best student into the model of this step, where it is to be kept. Returns what to say about it."""
        if not self.scores:
            return {}
        if processes.is_first():  # which saves it
            if self._keeps_best and self.best.step != step:
                weights = load_file(Path(self._best) / "adapter_model.safetensors")
                set_peft_model_state_dict(model, weights, adapter_name=STUDENT)
            shutil.rmtree(self._best, ignore_errors=True)
        best = self.best if self._keeps_best else self.scores[-1]
        return {
            "validated_step": best.step,
            "validation_accuracy": round(best.accuracy, 4),
            "validation_perturbed": round(best.perturbed, 4),
        }

    def _shares(self, model: PeftModel) -> Validated:
        tokenizer = self._loaded.tokenizer
        prompts = [prompt_tokens(tokenizer, example.prompt.messages) for example in self._asked]
        sampling = Sampling(_GREEDY, ANSWER_TOKENS, _ROWS, self._bf16)
        with torch.random.fork_rng():
            written = sample(
                model,
                prompts,
                1,
                sampling,
                [tokenizer.eos_token_id],
                tokenizer.pad_token_id,
                self._watch.watched,
            )
        self._watch.check()
        texts = tokenizer.batch_decode(written, skip_special_tokens=True)
        right = [answers_rightly(text, example) for text, example in zip(texts, self._asked, strict=True)]
        followed: dict[str, list[bool]] = defaultdict(list)
        for example, one in zip(self._asked[1::2], right[1::2], strict=True):
            followed[example.perturbed.family].append(one)
        return Validated(
            _share(right[::2]),
            _share(right[1::2]),
            {name: _share(of) for name, of in sorted(followed.items())},
        )


def _share(right: list[bool]) -> float:
    return sum(right) / len(right)


def _questions(manifest: StageManifest, stage: Learning, loaded: Loaded) -> list[Example]:
    """Each conversation under the tenant's schema and, next to it, under a perturbed one."""
    rng, schema = random.Random(f"validation-{manifest.seed}"), manifest.category_schema
    assert manifest.validation is not None
    labelled = read_labelled(manifest.validation, schema).conversations
    pool = code_pool(loaded.tokenizer, len(schema.answers))
    chosen = balanced_choice(labelled, stage.validation_items, rng)
    return [make_example(c, schema, pool, rng, perturb) for c in chosen for perturb in (False, True)]
