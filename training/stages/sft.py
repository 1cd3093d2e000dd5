"""SFT: imitate the traces.

Reasoning written by a teacher gives the student the form of an answer and most of the accuracy that a tenant will
get. It is off-policy: the student sees the teacher's good beginnings and never its own bad ones; and with one schema
it learns to tie words of customers to answers, which is why steerability falls while accuracy rises. So half of the
rows show a perturbed schema (`perturb`; without it the comparison of stages shows what is lost).

A share of the examples (`at_once`) has the code alone, after the words that serving writes for a model that is to
answer without reasoning; those words are given here too, and not learned. Labels without a trace, for which nobody has
written a reason, are learned from in this way. Some of the rows with a perturbed schema lack categories, whose
conversations are none of these; in them all is answered at once.

Before all that the sentence encoder learns that is heard beside some bases (`engine/encoder`).

Examples come in rows of a few that share one rendering of the schema, whose tokens are then read once (see
`prefix/rows`); the next row draws another. The loss is the mean over the completion tokens of an optimizer step, as it
is without sharing.

On a tenant's texts instead of traces this is continued pretraining: every token is learned. On general prompts with
their responses it is SFT as it is elsewhere: no schema, no codes.

Sequences are tokenised here rather than by the trainer, so that prompt tokens are those of serving, nothing is ever
cut (a limit on length cuts the label off first), and the loss is on the completion with its end-of-turn token alone.
"""

import math
import random
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from datasets import Dataset
from transformers import TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from trl import SFTConfig, SFTTrainer

from evaluation.contract.record import Conversation
from evaluation.contract.render import FAST_PREFIX, ChatMessage, render_conversation
from evaluation.contract.schema import CategorySchema
from training.artifacts import Finished, StageFailed
from training.config import Sft, StageManifest
from training.data.examples import (
    Example,
    Taught,
    Trace,
    draw_lacking,
    draw_rendering,
    drawn,
    in_turn,
    read_answered,
    read_labelled,
    read_left_out,
    read_texts,
    read_traces,
    taught,
)
from training.engine import encoder, processes
from training.engine.model import Loaded, check_fits, code_pool, completion_tokens, load, prompt_tokens
from training.engine.progress import EventWriter
from training.engine.trainer import KeepsAdapters, Watch, fit, trainer_arguments
from training.generation.prefix.rows import (
    Collator,
    PackedRow,
    PromptAndCompletion,
    can_share,
    row_of,
    suffixes_of,
)
from training.protocol import FailureCode

T = TypeVar("T")

_REMEDY = "shorten the definitions or use a base model with a longer context"
_BLOCK = 1024  # tokens of a text at once
_LACKING_SHARE = 0.4  # of the rows with a perturbed schema
_SORTED_AT_ONCE = 8  # micro-batches; over all steps, an example's repetitions would meet in one of them


class SftTrainer(KeepsAdapters, SFTTrainer):
    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """TRL counts tokens where no checkpoint keeps them."""
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        state = TrainerState.load_from_json(str(Path(resume_from_checkpoint) / TRAINER_STATE_NAME))
        self._total_train_tokens = max(
            (int(log.get("num_tokens", 0)) for log in state.log_history), default=0
        )

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        if "prefix_ids" in inputs:
            with self.accelerator.autocast():
                inputs = suffixes_of(self.accelerator.unwrap_model(model), inputs)
        return super().compute_loss(model, inputs, *args, **kwargs)


def run(manifest: StageManifest, stage: Sft, events: EventWriter) -> Finished:
    watch = Watch(manifest, stage, events)
    heard = encoder.learn(manifest, stage, events) if processes.is_first() else {}
    loaded = load(manifest, stage)
    lesson = _lesson(manifest, stage, loaded)
    trainer = SftTrainer(
        model=loaded.model,
        args=_config(manifest, stage, lesson),
        data_collator=Collator(loaded.tokenizer.pad_token_id) if lesson.sharing > 1 else None,
        train_dataset=Dataset.from_list([row._asdict() for row in lesson.rows]),
        processing_class=loaded.tokenizer,
    )
    finished = fit(trainer, manifest, watch, events)
    return finished._replace(metrics=finished.metrics | lesson.counts | heard)


class Lesson(NamedTuple):
    """rows: as many as the steps take. sharing: examples of a row. counts: what to say about it."""

    rows: list[PackedRow]
    steps: int
    sharing: int
    counts: dict[str, int]


def _lesson(manifest: StageManifest, stage: Sft, loaded: Loaded) -> Lesson:
    if stage.text is not None:
        return _text(stage, loaded, manifest.seed)
    if stage.prompts is not None:
        return _answered(stage, loaded, manifest.seed)
    return _traces(manifest, stage, loaded)


def _steps(stage: Sft, examples: int) -> int:
    return stage.max_steps or math.ceil(examples * stage.epochs / stage.batch_size)


def _traces(manifest: StageManifest, stage: Sft, loaded: Loaded) -> Lesson:
    """An epoch has every trace once and, where answers at once are learned, every label once more; where a schema lacks
    categories, a trace's conversation is answered at once instead."""
    assert manifest.traces is not None  # the manifest's validator requires it
    material = _material(manifest, stage)
    steps = _steps(stage, material.size)
    sharing = stage.sharing if can_share(loaded.model) else 1
    exercises = _exercises(material, stage, steps * stage.batch_size, random.Random(manifest.seed))
    rows, counted = _rows(manifest, stage, exercises, loaded, sharing)
    counts = {
        "traces": len(material.traces),
        "contradictory_traces": material.contradictory,
        "labels_at_once": len(material.labelled),
        "sequences": len(rows) * sharing,
        "examples_per_schema": sharing,
    } | counted
    return Lesson(rows, steps, sharing, counts)


def _text(stage: Sft, loaded: Loaded, seed: int) -> Lesson:
    """All of a text is learned, its end too; a long one in blocks."""
    assert stage.text is not None
    size = min(_BLOCK, int(loaded.model.config.get_text_config().max_position_embeddings))
    texts = [completion_tokens(loaded.tokenizer, text) for text in read_texts(stage.text)]
    blocks = [block for tokens in texts for block in _cut(tokens, size)]
    steps = _steps(stage, len(blocks))
    chosen = islice(in_turn(blocks, random.Random(seed)), steps * stage.batch_size)
    rows = [PackedRow(block, block, [0]) for block in chosen]
    return Lesson(rows, steps, 1, {"blocks": len(blocks), "sequences": len(rows)})


def _answered(stage: Sft, loaded: Loaded, seed: int) -> Lesson:
    """What is answered is learned, its end too; the prompt is read."""
    assert stage.prompts is not None
    sequences = [tokenise(loaded, one.messages, one.response) for one in read_answered(stage.prompts)]
    steps = _steps(stage, len(sequences))
    chosen = islice(in_turn(sequences, random.Random(seed)), steps * stage.batch_size)
    rows = [row_of([sequence]) for sequence in chosen]
    return Lesson(rows, steps, 1, {"prompts": len(sequences), "sequences": len(rows)})


def _config(manifest: StageManifest, stage: Sft, lesson: Lesson) -> SFTConfig:
    arguments = trainer_arguments(manifest, stage, lesson.steps)
    return SFTConfig(
        **arguments | {"per_device_train_batch_size": stage.micro_batch_size // lesson.sharing},
        loss_type=stage.loss,
        max_length=None,
        packing=False,
        train_sampling_strategy="sequential",  # the rows come in their order
    )


class SftMaterial(NamedTuple):
    """traces: by the id of their conversation. labelled: what answers at once are learned from."""

    traces: dict[str, Trace]
    contradictory: int
    traced: list[Conversation]
    labelled: list[Conversation]

    @property
    def size(self) -> int:
        return len(self.traced) + len(self.labelled)


class Exercise(NamedTuple):
    """trace: None of what is answered at once."""

    conversation: Conversation
    trace: Trace | None

    @property
    def length(self) -> int:  # characters stand for tokens
        return len(render_conversation(self.conversation)) + (len(self.trace.completion) if self.trace else 0)


def _material(manifest: StageManifest, stage: Sft) -> SftMaterial:
    assert manifest.traces is not None
    traces, contradictory = read_traces(manifest.traces, manifest.category_schema)
    left_out = read_left_out(manifest.traces)
    labelled = read_labelled(manifest.conversations, manifest.category_schema, left_out).conversations
    by_id = {trace.id: trace for trace in traces}
    traced = [c for c in labelled if c.id in by_id]
    if len(traced) < len(by_id):
        raise StageFailed(
            FailureCode.no_traces, "traces and conversations do not belong together; make traces again"
        )
    share = stage.share_at_once
    return SftMaterial(by_id, contradictory, traced if share < 1 else [], labelled if share else [])


def _exercises(material: SftMaterial, stage: Sft, wanted: int, rng: random.Random) -> list[Exercise]:
    """wanted: a multiple of the micro-batch; as many as the steps take, going round traces and labels."""
    count = round(wanted * stage.share_at_once)
    reasoned = [
        Exercise(c, material.traces[c.id]) for c in _chosen(material.traced, stage, wanted - count, rng)
    ]
    at_once = [Exercise(c, None) for c in _chosen(material.labelled, stage, count, rng)]
    return rng.sample(reasoned + at_once, wanted) if count else reasoned


def _rows(
    manifest: StageManifest, stage: Sft, exercises: list[Exercise], loaded: Loaded, sharing: int
) -> tuple[list[PackedRow], dict[str, int]]:
    """Also how many exercises are answered at once, and how many kept the codes that their trace was written under."""
    rng, schema = random.Random(manifest.seed), manifest.category_schema
    pool = code_pool(loaded.tokenizer, len(schema.answers))
    rows, answered_at_once, kept_codes = [], 0, 0
    for members in by_length(exercises, stage.micro_batch_size, sharing, lambda one: one.length, rng):
        perturb = stage.perturb and rng.random() < stage.perturbed_share
        lacks = perturb and stage.share_at_once > 0 and rng.random() < _LACKING_SHARE
        rendering = draw_lacking(schema, pool, rng) if lacks else draw_rendering(schema, pool, rng, perturb)
        sequences = []
        for one in members:
            example = rendering.example(one.conversation)
            if one.trace is None or lacks:  # a trace may argue with a category that is not there
                sequences.append(at_once(loaded, example))
                answered_at_once += 1
                continue
            target = _target(stage, one.trace, schema, example)
            sequences.append(tokenise(loaded, target.example.prompt.messages, target.text))
            kept_codes += not target.moved
        rows.append(row_of(sequences))
    return rows, {"sequences_at_once": answered_at_once, "sequences_under_own_codes": kept_codes}


def _target(stage: Sft, trace: Trace, schema: CategorySchema, example: Example) -> Taught:
    if stage.reasoning:
        return taught(trace, schema, example)
    return Taught(example, f"{FAST_PREFIX} {example.gold_code}", True)


def at_once(loaded: Loaded, example: Example) -> PromptAndCompletion:
    """The words before the code are written by whoever serves, so they stand in the prompt."""
    prompt, completion = tokenise(loaded, example.prompt.messages, f"{FAST_PREFIX} {example.gold_code}")
    given = len(loaded.tokenizer(FAST_PREFIX, add_special_tokens=False)["input_ids"])
    return PromptAndCompletion(prompt + completion[:given], completion[given:])


def _chosen(members: list[Conversation], stage: Sft, wanted: int, rng: random.Random) -> list[Conversation]:
    return list(islice(drawn(members, stage.balance, rng), wanted)) if wanted else []


def by_length(
    chosen: list[T],
    size: int,
    sharing: int,
    length: Callable[[T], int],
    rng: random.Random,
) -> list[list[T]]:
    """Rows of `sharing`, in micro-batches of `size` whose like lengths cost little padding, in random order.

    Neighbours in length are dealt to different rows, because they may be one example twice.
    """
    rows: list[list[T]] = []
    for stretch in _cut(chosen, _SORTED_AT_ONCE * size):
        batches = _cut(sorted(stretch, key=length), size)
        for batch in rng.sample(batches, len(batches)):
            count = len(batch) // sharing
            rows += [batch[number::count] for number in range(count)]
    return rows


def _cut(members: list[T], size: int) -> list[list[T]]:
    return [members[start : start + size] for start in range(0, len(members), size)]


def tokenise(loaded: Loaded, messages: list[ChatMessage], text: str) -> PromptAndCompletion:
    """Raises: StageFailed where prompt and completion do not fit the context."""
    prompt, completion = prompt_tokens(loaded.tokenizer, messages), completion_tokens(loaded.tokenizer, text)
    check_fits(loaded.model, len(prompt), len(completion), _REMEDY)
    return PromptAndCompletion(prompt, completion)
