"""SFT: imitate the traces.

Reasoning written by a teacher gives the student the form of an answer and most of the accuracy that a tenant will
get. It is off-policy: the student sees the teacher's good beginnings and never its own bad ones; and with one schema
it learns to tie words of customers to answers, which is why steerability falls here while accuracy rises. That loss
is left in on purpose (`perturb` is off by default) so that the comparison of stages shows it; the stages after this
one win it back.

Examples come in rows of a few that share one rendering of the schema, whose tokens are then read once (see
`tree_rows`); the next row draws another. The loss is the mean over the completion tokens of an optimizer step, as it
is without sharing.

On a tenant's texts instead of traces this is continued pretraining: every token is learned.

Sequences are tokenised here rather than by the trainer, so that prompt tokens are those of serving, nothing is ever
cut (a limit on length cuts the label off first), and the loss is on the completion with its end-of-turn token alone.
"""

import math
import random
from collections.abc import Callable
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from evaluation.contract.record import Conversation
from evaluation.contract.render import ANSWER_MARK, ChatMessage, render_conversation
from evaluation.contract.schema import CategorySchema
from training.artifacts import Finished, StageFailed
from training.config import Sft, StageManifest
from training.data import (
    Example,
    Trace,
    balanced,
    draw_rendering,
    read_labelled,
    read_texts,
    read_traces,
    retarget,
)
from training.learning import KeepsAdapters, Watch, fit, trainer_arguments
from training.model import Loaded, check_fits, code_pool, completion_tokens, load, prompt_tokens
from training.progress import Events
from training.protocol import FailureCode
from training.tree_rows import Collator, Row, Sequence, can_share, read_trunks, row_of

T = TypeVar("T")

_REMEDY = "shorten the definitions or use a base model with a longer context"
_BLOCK = 1024  # tokens of a text at once
_SORTED_AT_ONCE = 8  # micro-batches; over all steps, an example's repetitions would meet in one of them


class Trainer(KeepsAdapters, SFTTrainer):
    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        if "trunk_ids" in inputs:
            with self.accelerator.autocast():
                inputs = read_trunks(self.accelerator.unwrap_model(model), inputs)
        return super().compute_loss(model, inputs, *args, **kwargs)


def run(manifest: StageManifest, stage: Sft, events: Events) -> Finished:
    loaded = load(manifest, stage)
    lesson = _text(stage, loaded, manifest.seed) if stage.text else _traces(manifest, stage, loaded)
    watch = Watch(manifest, stage, events)
    trainer = Trainer(
        model=loaded.model,
        args=_config(manifest, stage, lesson),
        data_collator=Collator(loaded.tokenizer.pad_token_id) if lesson.sharing > 1 else None,
        train_dataset=Dataset.from_list([row._asdict() for row in lesson.rows]),
        processing_class=loaded.tokenizer,
    )
    finished = fit(trainer, manifest, watch, events)
    return finished._replace(metrics=finished.metrics | lesson.counts)


class Lesson(NamedTuple):
    """rows: as many as the steps take. sharing: examples of a row. counts: what to say about it."""

    rows: list[Row]
    steps: int
    sharing: int
    counts: dict[str, int]


def _steps(stage: Sft, examples: int) -> int:
    return stage.max_steps or math.ceil(examples * stage.epochs / stage.batch_size)


def _traces(manifest: StageManifest, stage: Sft, loaded: Loaded) -> Lesson:
    assert manifest.traces is not None  # the manifest's validator requires it
    traces = read_traces(manifest.traces, manifest.category_schema)
    steps = _steps(stage, len(traces))
    sharing = math.gcd(stage.examples_per_schema, stage.micro_batch_size) if can_share(loaded.model) else 1
    rows = _rows(manifest, stage, traces, loaded, steps * stage.batch_size, sharing)
    counts = {"traces": len(traces), "sequences": len(rows) * sharing, "examples_per_schema": sharing}
    return Lesson(rows, steps, sharing, counts)


def _text(stage: Sft, loaded: Loaded, seed: int) -> Lesson:
    """All of a text is learned, its end too; a long one in blocks."""
    assert stage.text is not None
    size = min(_BLOCK, int(loaded.model.config.get_text_config().max_position_embeddings))
    texts = [completion_tokens(loaded.tokenizer, text) for text in read_texts(stage.text)]
    blocks = [block for tokens in texts for block in _cut(tokens, size)]
    steps = _steps(stage, len(blocks))
    chosen = _in_turn(blocks, steps * stage.batch_size, random.Random(seed))
    rows = [Row(block, block, [0]) for block in chosen]
    return Lesson(rows, steps, 1, {"blocks": len(blocks), "sequences": len(rows)})


def _config(manifest: StageManifest, stage: Sft, lesson: Lesson) -> SFTConfig:
    arguments = trainer_arguments(manifest, stage, lesson.steps)
    return SFTConfig(
        **arguments | {"per_device_train_batch_size": stage.micro_batch_size // lesson.sharing},
        lr_scheduler_type="cosine",
        loss_type=stage.loss,
        max_length=None,
        packing=False,
        train_sampling_strategy="sequential",  # the rows come in their order
    )


def _rows(
    manifest: StageManifest, stage: Sft, traces: list[Trace], loaded: Loaded, wanted: int, sharing: int
) -> list[Row]:
    """wanted: examples, a multiple of the micro-batch; as many as the steps take, going round the traces."""
    rng, schema = random.Random(manifest.seed), manifest.category_schema
    pool = code_pool(loaded.tokenizer, len(schema.answers))
    by_id = {trace.id: trace for trace in traces}
    chosen = _chosen(_traced(manifest, by_id), stage, wanted, rng)

    def length(conversation: Conversation) -> int:  # characters stand for tokens
        return len(render_conversation(conversation)) + len(by_id[conversation.id].completion)

    rows = []
    for members in by_length(chosen, stage.micro_batch_size, sharing, length, rng):
        rendering = draw_rendering(schema, pool, rng, stage.perturb)
        examples = [rendering.example(member) for member in members]
        texts = [_target(stage, by_id, schema, e) for e in examples]
        sequences = [
            tokenise(loaded, e.prompt.messages, text) for e, text in zip(examples, texts, strict=True)
        ]
        rows.append(row_of(sequences))
    return rows


def _target(stage: Sft, by_id: dict[str, Trace], schema: CategorySchema, example: Example) -> str:
    if stage.reasoning:
        return retarget(by_id[example.conversation.id], schema, example)
    return f"{ANSWER_MARK} {example.gold_code}".lstrip()


def _traced(manifest: StageManifest, by_id: dict[str, Trace]) -> list[Conversation]:
    labelled = read_labelled(manifest.conversations, manifest.category_schema).conversations
    traced = [c for c in labelled if c.id in by_id]
    if len(traced) < len(by_id):
        raise StageFailed(
            FailureCode.no_traces, "traces and conversations do not belong together; make traces again"
        )
    return traced


def _chosen(traced: list[Conversation], stage: Sft, wanted: int, rng: random.Random) -> list[Conversation]:
    if stage.balance:
        return list(islice(balanced(traced, rng), wanted))
    return _in_turn(traced, wanted, rng)


def _in_turn(members: list[T], wanted: int, rng: random.Random) -> list[T]:
    """Round after round in random orders."""
    rounds = math.ceil(wanted / len(members))
    return [member for _ in range(rounds) for member in rng.sample(members, len(members))][:wanted]


def by_length(
    chosen: list[Conversation],
    size: int,
    sharing: int,
    length: Callable[[Conversation], int],
    rng: random.Random,
) -> list[list[Conversation]]:
    """Rows of `sharing`, in micro-batches of `size` whose like lengths cost little padding, in random order.

    Neighbours in length are dealt to different rows, because they may be one example twice.
    """
    rows: list[list[Conversation]] = []
    for stretch in _cut(chosen, _SORTED_AT_ONCE * size):
        batches = _cut(sorted(stretch, key=length), size)
        for batch in rng.sample(batches, len(batches)):
            count = len(batch) // sharing
            rows += [batch[number::count] for number in range(count)]
    return rows


def _cut(members: list[T], size: int) -> list[list[T]]:
    return [members[start : start + size] for start in range(0, len(members), size)]


def tokenise(loaded: Loaded, messages: list[ChatMessage], text: str) -> Sequence:
    """Raises: StageFailed where prompt and completion do not fit the context."""
    prompt, completion = prompt_tokens(loaded.tokenizer, messages), completion_tokens(loaded.tokenizer, text)
    check_fits(loaded.model, len(prompt), len(completion), _REMEDY)
    return Sequence(prompt, completion)
