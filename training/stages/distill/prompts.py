"""What is asked in distillation: of the student, and with a hint of the teacher."""

import random
from itertools import cycle, islice
from typing import Any, Final, NamedTuple

from evaluation.contract.schema import CategorySchema
from training.artifacts import StageFailed
from training.config import Distill, StageManifest
from training.data.examples import (
    Example,
    Trace,
    draw_rendering,
    drawn,
    hint_for,
    read_contexts,
    read_general,
    read_labelled,
    read_left_out,
    retarget,
    taught,
    traces_by_id,
)
from training.engine.model import Loaded, code_pool
from training.protocol import FailureCode
from training.teachers.privileged import HintKind, document_hint, hinted, no_hint, with_hint


def rows_of(manifest: StageManifest, stage: Distill, loaded: Loaded) -> list[dict[str, Any]]:
    """As many as the steps take, each prompt as often as it has rollouts, next to each other."""
    rng, schema = random.Random(manifest.seed), manifest.category_schema
    traces = traces_by_id(manifest.traces, schema)
    shown = _Shown(
        traces_by_id(stage.demonstrations, schema) if stage.demonstrations else traces,
        read_contexts(stage.contexts) if stage.contexts else {},
    )
    left_out = read_left_out(manifest.traces)
    labelled = read_labelled(manifest.conversations, schema, left_out).conversations
    if not stage.on_policy:
        labelled = [conversation for conversation in labelled if conversation.id in traces]
    if stage.contexts:
        labelled = [conversation for conversation in labelled if conversation.id in shown.contexts]
    if not labelled:
        raise StageFailed(
            FailureCode.no_examples,
            "no labelled conversation has what the stage reads of it: its id is in none of the files given "
            "(traces, contexts)",
        )
    pool = code_pool(loaded.tokenizer, len(schema.answers))
    chosen, sharing = drawn(labelled, stage.balance, rng), stage.sharing
    rows: list[dict[str, Any]] = []
    for _ in range(stage.steps * stage.batch_size // sharing):
        perturb = stage.perturb and rng.random() < stage.perturbed_share
        rendering = draw_rendering(schema, pool, rng, perturb)
        for conversation in islice(chosen, sharing // stage.rollouts):
            row = _row(rendering.example(conversation), stage, traces.get(conversation.id), shown, schema)
            rows += [row] * stage.rollouts
    return rows


def general_rows(manifest: StageManifest, stage: Distill) -> list[dict[str, Any]]:
    assert stage.prompts is not None
    prompts = read_general(stage.prompts, stage.contexts)
    random.Random(manifest.seed).shuffle(prompts)
    rows: list[dict[str, Any]] = []
    for messages, context in islice(cycle(prompts), stage.steps * stage.batch_size // stage.rollouts):
        hint = document_hint(context) if context else no_hint()
        row = {"prompt": messages, "teacher_prompt": hinted(messages, hint)} | _UNTRACED
        rows += [row] * stage.rollouts
    return rows


_UNTRACED: Final = {"traced": False, "instead": False}


def counts_of(rows: list[dict[str, Any]], rollouts: int) -> dict[str, int]:
    """Of prompts. without_demonstration: whose teacher was to be shown one, and was shown the criterion instead."""
    counted = {"with_trace": "traced", "without_demonstration": "instead"}
    sums = {name: sum(row[of] for row in rows) // rollouts for name, of in counted.items()}
    return {"prompts": len(rows) // rollouts} | sums


class _Shown(NamedTuple):
    """What the teacher may be shown, by the conversation's id."""

    demonstrations: dict[str, Trace]
    contexts: dict[str, str]


def _row(
    example: Example, stage: Distill, learned: Trace | None, shown: _Shown, schema: CategorySchema
) -> dict[str, Any]:
    """learned: what is read off policy. Where a trace is moved to other codes, so is the prompt that it answers."""
    text = completion = None
    if not stage.on_policy and learned is not None:
        example, completion, _ = taught(learned, schema, example)
    key = example.conversation.id
    if stage.hint is HintKind.document:
        text = shown.contexts[key]
    elif stage.hint is HintKind.demonstration and (trace := shown.demonstrations.get(key)) is not None:
        if stage.on_policy:
            example, text, _ = taught(trace, schema, example)
        else:  # its prompt is the learned one's; where its prose cannot follow, the criterion stands in
            text = retarget(trace, schema, example)
    row = {
        "prompt": example.prompt.messages,
        "teacher_prompt": with_hint(example.prompt, hint_for(example, stage.hint, text)),
        "example": example,
        "traced": text is not None or completion is not None,
        "instead": stage.hint is HintKind.demonstration and text is None,
    }
    return row if stage.on_policy else row | {"completion": completion}
