"""What is asked in distillation: of the student, and with a hint of the teacher."""

import random
from itertools import cycle, islice
from typing import Any

from evaluation.contract.schema import CategorySchema
from training.config import Distill, StageManifest
from training.data.examples import (
    Example,
    Trace,
    draw_rendering,
    drawn,
    hint_for,
    read_general,
    read_labelled,
    read_left_out,
    read_traces,
    taught,
)
from training.engine.model import Loaded, code_pool
from training.teachers.privileged import HintKind, with_hint


def rows_of(manifest: StageManifest, stage: Distill, loaded: Loaded) -> list[dict[str, Any]]:
    """As many as the steps take, each prompt as often as it has rollouts, next to each other."""
    rng, schema = random.Random(manifest.seed), manifest.category_schema
    traces = {t.id: t for t in read_traces(manifest.traces, schema).traces} if manifest.traces else {}
    left_out = read_left_out(manifest.traces)
    labelled = read_labelled(manifest.conversations, schema, left_out).conversations
    if not stage.on_policy:
        labelled = [conversation for conversation in labelled if conversation.id in traces]
    pool = code_pool(loaded.tokenizer, len(schema.answers))
    chosen, sharing = drawn(labelled, stage.balance, rng), stage.sharing
    rows: list[dict[str, Any]] = []
    for _ in range(stage.steps * stage.batch_size // sharing):
        perturb = stage.perturb and rng.random() < stage.perturbed_share
        rendering = draw_rendering(schema, pool, rng, perturb)
        for conversation in islice(chosen, sharing // stage.rollouts):
            row = _row(rendering.example(conversation), stage, traces.get(conversation.id), schema)
            rows += [row] * stage.rollouts
    return rows


def general_rows(manifest: StageManifest, stage: Distill) -> list[dict[str, Any]]:
    assert stage.prompts is not None
    prompts = read_general(stage.prompts)
    random.Random(manifest.seed).shuffle(prompts)
    rows: list[dict[str, Any]] = []
    for messages in islice(cycle(prompts), stage.steps * stage.batch_size // stage.rollouts):
        rows += [{"prompt": messages, "teacher_prompt": messages, "traced": False}] * stage.rollouts
    return rows


def _row(example: Example, stage: Distill, trace: Trace | None, schema: CategorySchema) -> dict[str, Any]:
    text = None
    if trace is not None and (stage.hint is HintKind.demonstration or not stage.on_policy):
        example, text, _ = taught(trace, schema, example)
    hint = hint_for(example, stage.hint, text)
    row = {
        "prompt": example.prompt.messages,
        "teacher_prompt": with_hint(example.prompt, hint),
        "example": example,
        "traced": text is not None,
    }
    return row if stage.on_policy else row | {"completion": text}
