"""SFT: imitate the traces.

Reasoning written by a teacher gives the student the form of an answer and most of the accuracy that a tenant will
get. It is off-policy: the student sees the teacher's good beginnings and never its own bad ones; and with one schema
it learns to tie words of customers to answers, which is why steerability falls here while accuracy rises. That loss
is left in on purpose (`perturb` is off by default) so that the comparison of stages shows it; the stages after this
one win it back.

Sequences are tokenised here rather than by the trainer, so that prompt tokens are those of serving, nothing is ever
cut (a limit on length cuts the label off first), and the loss is on the completion with its end-of-turn token alone.
"""

import math
import random
from itertools import islice
from typing import NamedTuple

from datasets import Dataset
from transformers import PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer

from evaluation.contract.render import ChatMessage
from training.artifacts import FailureCode, Finished, StageFailed
from training.config import Sft, StageManifest
from training.data import Trace, balanced, make_example, read_labelled, read_traces, retarget
from training.learning import KeepsAdapters, Watch, fit, trainer_arguments
from training.model import (
    Loaded,
    code_pool,
    completion_tokens,
    context_length,
    load,
    prompt_tokens,
)
from training.progress import Events

IGNORED = -100


class Row(NamedTuple):
    input_ids: list[int]
    labels: list[int]


class Trainer(KeepsAdapters, SFTTrainer):
    pass


def run(manifest: StageManifest, stage: Sft, events: Events) -> Finished:
    assert manifest.traces is not None  # the manifest's validator requires it
    schema = manifest.category_schema
    traces = read_traces(manifest.traces, schema)
    loaded = load(manifest.base, manifest.adapter, stage.lora, manifest.seed)
    steps = stage.max_steps or math.ceil(len(traces) * stage.epochs / stage.batch_size)
    rows = _rows(manifest, stage, traces, loaded, steps * stage.batch_size)
    watch = Watch(manifest, stage, events)
    trainer = Trainer(
        model=loaded.model,
        args=_config(manifest, stage, steps),
        train_dataset=Dataset.from_list([row._asdict() for row in _by_length(rows, stage, manifest.seed)]),
        processing_class=loaded.tokenizer,
    )
    finished = fit(trainer, manifest, watch, events)
    return finished._replace(metrics={**finished.metrics, "traces": len(traces), "sequences": len(rows)})


def _config(manifest: StageManifest, stage: Sft, steps: int) -> SFTConfig:
    return SFTConfig(
        **trainer_arguments(manifest, stage, steps),
        lr_scheduler_type="cosine",
        loss_type=stage.loss,
        max_length=None,
        packing=False,
        train_sampling_strategy="sequential",  # the rows come in their order
    )


def _rows(manifest: StageManifest, stage: Sft, traces: list[Trace], loaded: Loaded, count: int) -> list[Row]:
    """As many as the steps take, going round the traces."""
    rng = random.Random(manifest.seed)
    schema, limit = manifest.category_schema, context_length(loaded.model)
    pool = code_pool(loaded.tokenizer, len(schema.answers))
    by_id = {trace.id: trace for trace in traces}
    labelled = read_labelled(manifest.conversations, schema).conversations
    traced = [c for c in labelled if c.id in by_id]
    if len(traced) < len(by_id):
        raise StageFailed(
            FailureCode.no_traces, "traces and conversations do not belong together; make traces again"
        )
    if stage.balance:
        chosen = list(islice(balanced(traced, rng), count))
    else:
        chosen = [c for _ in range(math.ceil(count / len(traced))) for c in rng.sample(traced, len(traced))][
            :count
        ]
    rows = []
    for conversation in chosen:
        example = make_example(conversation, schema, pool, rng, stage.perturb)
        text = retarget(by_id[conversation.id], schema, example)
        rows.append(tokenise(loaded.tokenizer, example.prompt.messages, text, limit))
    return rows


def tokenise(tokenizer: PreTrainedTokenizerBase, messages: list[ChatMessage], text: str, limit: int) -> Row:
    """Raises: StageFailed where prompt and completion do not fit the context, because cutting would lose the label."""
    prompt, completion = prompt_tokens(tokenizer, messages), completion_tokens(tokenizer, text)
    if len(prompt) + len(completion) > limit:
        raise StageFailed(
            FailureCode.prompt_too_long,
            f"a prompt of {len(prompt)} tokens with its answer does not fit the model's context of {limit}; shorten "
            "the definitions or use a base model with a longer context",
        )
    return Row(prompt + completion, [IGNORED] * len(prompt) + completion)


def _by_length(rows: list[Row], stage: Sft, seed: int) -> list[Row]:
    """Micro-batches of like lengths, which cost little padding, in random order."""
    ordered = sorted(rows, key=lambda row: len(row.input_ids))
    size = stage.micro_batch_size
    batches = [ordered[i : i + size] for i in range(0, len(ordered), size)]
    random.Random(seed).shuffle(batches)
    return [row for batch in batches for row in batch]
