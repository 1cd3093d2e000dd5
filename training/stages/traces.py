"""Traces: responses with the right answer, written for the tenant's own conversations.

A teacher answers every labelled conversation some times, and the label judges: what is kept answers rightly, quotes
words that really stand in the conversation, and names a condition of the right category. The default teacher is the
model itself, shown the answer and, where the label leaves no doubt about it, the condition behind it (the least hint
that lets it justify the answer); the kept prompt is without the hint. An endpoint with a stronger model does better
where there is one: self-distilled rationales of a small model are known to be the weaker teacher.

Which responses are taken: among those with the right answer, one that also quotes customer and condition truly,
before one that only names the condition, before one that only quotes. A right answer without either is a guess and
is not kept. Conversations that yield nothing are counted by category; nothing is made up for them.
"""

import random
import time
from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, NamedTuple, assert_never

from evaluation.contract.parse import decided_by, evidence, parse
from evaluation.contract.record import Conversation
from training.artifacts import FailureCode, Finished, StageFailed, write_jsonl
from training.config import EndpointTeacher, PrivilegedTeacher, StageManifest, Traces
from training.data import (
    Example,
    Trace,
    balanced_choice,
    count_by_category,
    hint_for,
    make_example,
    read_labelled,
)
from training.model import code_pool, load_tokenizer
from training.progress import Events
from training.teachers.endpoint import answers as endpoint_answers
from training.teachers.privileged import with_hint


class Quality(StrEnum):
    """How well a right answer is justified, best first."""

    full = "full"  # customer and condition quoted truly
    condition = "condition"
    evidence = "evidence"


class Written(NamedTuple):
    """What one teacher wrote for one example; errored: requests that brought nothing.

    tokens: None where the teacher's server did not count them.
    """

    example: Example
    responses: list[str]
    tokens: int | None
    errored: int


class Kept(NamedTuple):
    trace: Trace
    quality: Quality


def run(manifest: StageManifest, stage: Traces, events: Events) -> Finished:
    rng = random.Random(manifest.seed)
    labelled = read_labelled(manifest.conversations, manifest.category_schema)
    chosen = balanced_choice(labelled.conversations, stage.limit, rng)
    pool = code_pool(load_tokenizer(manifest.base), len(manifest.category_schema.answers))
    examples = [make_example(c, manifest.category_schema, pool, rng, perturb=False) for c in chosen]
    kept: list[Kept] = []
    tried: list[Conversation] = []
    counts: Counter[str] = Counter()
    deadline = None if stage.max_seconds is None else time.monotonic() + stage.max_seconds
    for batch in _written(manifest, stage, examples):
        for written in batch:
            tried.append(written.example.conversation)
            counts.update(responses=len(written.responses), errored=written.errored)
            counts.update({"uncounted": 1} if written.tokens is None else {"tokens": written.tokens})
            best = select(written, _teacher_name(manifest, stage))
            if best is not None:
                kept.append(best)
        events.write("progress", step=len(tried), total_steps=len(examples), metrics={"kept": len(kept)})
        if deadline is not None and time.monotonic() > deadline:
            break
    return _finish(manifest, kept, tried, counts, len(examples))


def _finish(
    manifest: StageManifest, kept: list[Kept], tried: list[Conversation], counts: Counter[str], asked: int
) -> Finished:
    if not kept:
        raise StageFailed(
            FailureCode.no_traces,
            f"not one of {counts['responses']} responses to {len(tried)} conversations had the right answer with a "
            "true quotation; use a stronger teacher, more samples, or check that labels and definitions agree",
        )
    write_jsonl(manifest.out / "traces.jsonl", [k.trace.as_row() for k in kept])
    of_tried = count_by_category([c.category for c in tried])
    of_kept = count_by_category([k.trace.category for k in kept])
    metrics: dict[str, Any] = {
        "kept": len(kept),
        "tried": len(tried),
        "without_yield": len(tried) - len(kept),
        "not_reached": asked - len(tried),
        "responses": counts["responses"],
        "errored": counts["errored"],
        "quality": {q.value: sum(k.quality is q for k in kept) for q in Quality},
        "yield_by_category": {name: [of_kept.get(name, 0), n] for name, n in of_tried.items()},
    }
    return Finished(len(tried), None if counts["uncounted"] else counts["tokens"], metrics)


def select(written: Written, teacher: str) -> Kept | None:
    """The best response with the right answer; of equally good ones the first."""
    example = written.example
    judged = [(judge(text, example), n) for n, text in enumerate(written.responses)]
    good = [(list(Quality).index(quality), n, quality) for quality, n in judged if quality is not None]
    if not good:
        return None
    _, attempt, quality = min(good)
    trace = Trace(
        id=example.conversation.id,
        prompt=example.prompt.messages,
        completion=written.responses[attempt].strip(),
        codes=example.prompt.codes,
        category=example.gold,
        teacher=teacher,
        attempt=attempt,
    )
    return Kept(trace, quality)


def judge(text: str, example: Example) -> Quality | None:
    """None where the response is not to be learned from."""
    answer = parse(text, example.schema, example.prompt.codes)
    stripped = text.rstrip()
    if (
        answer.failure is not None
        or answer.category != example.gold
        or not stripped.endswith(example.gold_code)
    ):
        return None
    decided = decided_by(answer.reasoning, example.schema, example.gold) is not None
    quoted = bool(evidence(answer.reasoning, example.conversation))
    if decided and quoted:
        return Quality.full
    if decided:
        return Quality.condition
    return Quality.evidence if quoted else None


def _written(manifest: StageManifest, stage: Traces, examples: list[Example]) -> Iterator[list[Written]]:
    match stage.teacher:
        case PrivilegedTeacher():
            return _from_model(manifest, stage, stage.teacher, examples)
        case EndpointTeacher():
            return _from_endpoint(stage, stage.teacher, examples)
    assert_never(stage.teacher)


def _from_model(
    manifest: StageManifest, stage: Traces, teacher: PrivilegedTeacher, examples: list[Example]
) -> Iterator[list[Written]]:
    # Imported here because an endpoint's traces need no model in this process.
    from training.config import Lora, Precision
    from training.model import load, prompt_tokens, uses_bf16
    from training.rollouts import Sampling, sample

    adapter = manifest.adapter if teacher.model is None else None
    model, tokenizer = load(teacher.model or manifest.base, adapter, Lora(), manifest.seed)
    sampling = Sampling(stage.temperature, stage.max_new_tokens, stage.batch_size, uses_bf16(Precision.auto))
    prompts = [prompt_tokens(tokenizer, with_hint(e.prompt, hint_for(e, teacher.hint))) for e in examples]
    per_batch = max(1, stage.batch_size // stage.samples)
    for chosen in _like_lengths(prompts, per_batch, manifest.seed):
        texts = sample(
            model,
            [prompts[i] for i in chosen],
            stage.samples,
            sampling,
            eos=[tokenizer.eos_token_id],
            pad=tokenizer.pad_token_id,
        )
        yield [
            Written(
                examples[i],
                [
                    tokenizer.decode(t, skip_special_tokens=True)
                    for t in own
                    if t[-1] == tokenizer.eos_token_id
                ],
                len(prompts[i]) + sum(map(len, own)),
                0,
            )
            for n, i in enumerate(chosen)
            for own in [texts[n * stage.samples : (n + 1) * stage.samples]]
        ]


def _like_lengths(prompts: list[list[int]], size: int, seed: int) -> list[list[int]]:
    """Batches of like lengths in random order, so that a stage out of time has seen all lengths."""
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    batches = [order[i : i + size] for i in range(0, len(order), size)]
    random.Random(seed).shuffle(batches)
    return batches


def _from_endpoint(
    stage: Traces, teacher: EndpointTeacher, examples: list[Example]
) -> Iterator[list[Written]]:
    size = max(1, teacher.concurrency * 4 // stage.samples)
    for start in range(0, len(examples), size):
        batch = examples[start : start + size]
        asked = [with_hint(e.prompt, hint_for(e, teacher.hint)) for e in batch]
        replies = endpoint_answers(teacher, asked, stage.samples, stage.temperature, stage.max_new_tokens)
        yield [
            Written(example, reply.texts, reply.tokens, reply.errored)
            for example, reply in zip(batch, replies, strict=True)
        ]


def _teacher_name(manifest: StageManifest, stage: Traces) -> str:
    teacher = stage.teacher
    if isinstance(teacher, EndpointTeacher):
        return f"endpoint:{teacher.model}"
    return f"{'self' if teacher.model is None else teacher.model}:{teacher.hint.value}"
