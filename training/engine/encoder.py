"""SFT of the sentence encoder that is heard beside the base: the tenant's copy of it learns from the tenant's labels.

What a small encoder learns from some hundred labels in minutes is most of what a small base would learn from them in
an hour. It reads definitions, includes and excludes, never a name or a code, so that swaps and other names are
followed without being practised. That it goes on reading definitions it has not seen is practised on the written
businesses, in every second half of a step. And in every other step the tenant's schema lacks some categories, whose
conversations are then none of these: no answer is learned by what stands beside it, and what belongs nowhere is learned
without a label.

At its end the labelled conversations go with the copy, as examples of the conditions that decided them.

Left out: labels of conversations that are in doubt, schemas under which no encoder is heard, and every base
that is read without one.
"""

import json
import math
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch

from evaluation.atomic_files import write_whole
from evaluation.contract.base_note import ADAPTER_LIKENESS, LIKENESS_FILE
from evaluation.contract.perturb import lacking
from evaluation.contract.record import Conversation
from evaluation.contract.schema import CategorySchema
from training.artifacts import StageFailed
from training.base import businesses
from training.base.lessons import PHASES
from training.base.likeness import LikenessNetwork, add_gradient, optimizer_of, take_step
from training.config import Sft, StageManifest
from training.data.examples import drawn, read_labelled, read_left_out
from training.engine.progress import EventWriter
from training.hardware import give_back_memory
from training.protocol import ADAPTER, CHECKPOINTS, FailureCode
from training.sittings import rate

BATCH: Final = 24  # conversations under the tenant's schema, and as many under a business's
_AT_ONCE: Final = 12  # of them, in memory
_WARM_UP: Final = 10  # steps
_LEAST_RATE: Final = 0.05
_DECISIVE: Final = 3  # times the rate, of the few parameters beside the factors
_REPLAYED: Final = 0.5  # what a business's loss counts
# Of twelve, those that learn. With all of them a step takes half as long again (docs/training.md).
_LAST_LAYERS: Final = 6
_PARTIAL: Final = 0.5  # chance of a schema that lacks some categories
_MOST_OF_ANSWER: Final = 48  # examples: the nearest three are heard, and each has to be read once
_MOST_EXAMPLES: Final = 2000  # 1.5 kB each
_MOST_SHARE: Final = 1 / 2  # of the stage's seconds


def learn(manifest: StageManifest, stage: Sft, events: EventWriter) -> dict[str, Any]:
    """Leaves the copy among the stage's checkpoints, once; nothing where the base is read without an encoder.

    Returns metrics, also where an attempt before this one has made them. Raises: StageFailed.
    """
    out = manifest.out / CHECKPOINTS / ADAPTER_LIKENESS
    told_by = out.with_suffix(".json")
    if not _learns(manifest, stage):
        return {}
    if told_by.is_file():
        kept: dict[str, Any] = json.loads(told_by.read_bytes())
        return kept
    training = _EncoderTraining(manifest, stage)
    lid_s = math.inf if stage.max_seconds is None else stage.max_seconds * _MOST_SHARE
    started, rights = time.monotonic(), list[float]()
    for step in range(stage.encoder_steps):
        share = max(step / stage.encoder_steps, (time.monotonic() - started) / lid_s)
        if share >= 1:
            break
        rights.append(training.step(step, share))
        told = f"sentence encoder, step {step + 1} of {stage.encoder_steps}: {rights[-1]:.2f} right"
        events.write("progress", step=0, message=told)
    last = rights[-max(1, len(rights) // 10) :]
    metrics = {
        "encoder_steps": len(rights),
        "encoder_seconds": round(time.monotonic() - started, 1),
        "encoder_label_accuracy_last": round(sum(last) / len(last), 4),
    }
    out.parent.mkdir(exist_ok=True)
    training.network.save(out, training.examples())
    del training
    give_back_memory()
    write_whole(told_by, json.dumps(metrics).encode())  # last: where it is, all is
    return metrics


def bring_along(manifest: StageManifest) -> None:
    """The copy that this stage has trained, or one before it, goes with the adapter that it leaves."""
    own = manifest.out / CHECKPOINTS / ADAPTER_LIKENESS
    before = None if manifest.adapter is None else manifest.adapter / ADAPTER_LIKENESS
    found = next((file for file in (own, before) if file is not None and file.is_file()), None)
    if found is not None:
        write_whole(manifest.out / ADAPTER / ADAPTER_LIKENESS, found.read_bytes())


def takes_s(manifest: StageManifest, stage: Sft) -> float:
    """By the second of two steps, and by reading some of the examples; steps that max_seconds leaves no room for are
    counted too."""
    if not _learns(manifest, stage):
        return 0.0
    # The traces, which say what labels are in doubt, need not be written yet.
    training = _EncoderTraining(manifest.model_copy(update={"traces": None}), stage)
    training.step(0, 0.0)
    started = time.monotonic()
    training.step(1, 0.0)
    stepped = time.monotonic()
    every = training.drawn_examples()
    some = every[:BATCH]
    training.network.examples(manifest.category_schema, some)
    read_s = (time.monotonic() - stepped) * len(every) / len(some)
    return (stepped - started) * stage.encoder_steps + read_s


def _learns(manifest: StageManifest, stage: Sft) -> bool:
    wanted = bool(stage.encoder_steps) and stage.reads_traces and manifest.category_schema.describes_texts
    return wanted and _encoder_of(manifest).is_file()


def _encoder_of(manifest: StageManifest) -> Path:
    return Path(manifest.base) / LIKENESS_FILE


class _EncoderTraining:
    def __init__(self, manifest: StageManifest, stage: Sft):
        torch.manual_seed(manifest.seed)
        self._rng, self._schema, self._stage = random.Random(manifest.seed), manifest.category_schema, stage
        left_out = read_left_out(manifest.traces)
        self._labelled = read_labelled(manifest.conversations, self._schema, left_out).conversations
        self._turns = drawn(self._labelled, stage.balance, self._rng)
        every = businesses.load()
        self._shops = businesses.for_training(every) + list(businesses.load_further().values())
        self.network = LikenessNetwork.trained(_encoder_of(manifest))
        self.network.learn_last(_LAST_LAYERS)
        self._optimizer = optimizer_of(self.network)

    def examples(self) -> dict[str, torch.Tensor]:
        return self.network.examples(self._schema, self.drawn_examples())

    def drawn_examples(self) -> list[Conversation]:
        """Some of every answer's, by lot."""
        of_answer: dict[str | None, list[Conversation]] = defaultdict(list)
        for one in self._rng.sample(self._labelled, len(self._labelled)):
            of_answer[one.category].append(one)
        most = min(_MOST_OF_ANSWER, _MOST_EXAMPLES // len(of_answer))
        return [one for every in of_answer.values() for one in every[:most]]

    def step(self, number: int, share: float) -> float:
        """share: of the training, 0..1, by which the rate falls. Returns how many of the tenant's were right, 0..1."""
        right = self._learned(*self._shown([next(self._turns) for _ in range(BATCH)]), 1.0)
        self._learned(*self._replayed(), _REPLAYED)
        falling = self._stage.encoder_learning_rate * rate(share, number, _WARM_UP, _LEAST_RATE)
        if not take_step(self.network, self._optimizer, (falling, _DECISIVE * falling)):
            raise StageFailed(
                FailureCode.non_finite_loss,
                f"the gradient of the sentence encoder's step {number + 1} is not finite; lower encoder_learning_rate",
            )
        return right

    def _learned(self, schema: CategorySchema, conversations: Sequence[Conversation], weight: float) -> float:
        """Some at once: what is kept of 24 long ones until they are learned would be gigabytes."""
        rights = 0
        for begin in range(0, len(conversations), _AT_ONCE):
            some = conversations[begin : begin + _AT_ONCE]
            rights += add_gradient(self.network, schema, some, weight * len(some) / len(conversations))
        return rights / len(conversations)

    def _shown(self, batch: list[Conversation]) -> tuple[CategorySchema, list[Conversation]]:
        """Under the schema, or one that lacks categories: what was of them is none of these."""
        if self._rng.random() >= _PARTIAL:
            return self._schema, batch
        shown = lacking(self._schema, self._rng)
        return shown.schema, [one.model_copy(update={"category": shown.gold(one.category)}) for one in batch]

    def _replayed(self) -> tuple[CategorySchema, list[Conversation]]:
        while True:
            problem = businesses.sample_problem(self._shops, self._rng, PHASES[-1].draw, BATCH)
            if len(problem.schema.answers) > 1:
                return problem.schema, [one.conversation for one in problem.examples]
