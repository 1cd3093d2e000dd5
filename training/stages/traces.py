"""Traces: responses with the right answer, written for the tenant's own conversations.

Teachers answer every labelled conversation some times, and the label judges: what is kept answers rightly, quotes
words that really stand in the conversation, and names a condition of the right category. The default teacher is the
model itself, shown the answer and, where the label leaves no doubt about it, the condition behind it (the least hint
that lets it justify the answer); the kept prompt is without the hint. Endpoints with stronger models do better where
there are some: self-distilled rationales of a small model are known to be the weaker teacher.

Several teachers are asked in their order, each for what is left, so that a dear one is paid only for what a cheap one
cannot do; or all are asked for everything. With the student itself as the first one (`privileged`, hint `none`) and
one that `corrects` after it, that is a round of DAgger (Ross et al., arXiv 1011.0686): the student's own rollouts,
annotated anew where they are wrong.

Which responses are taken: among those with the right answer, one that also quotes customer and condition truly,
before one that only names the condition, before one that only quotes. A right answer without either is a guess and
is not kept. Conversations that yield nothing are counted by category; nothing is made up for them. What teachers
without a hint answered is kept beside the traces (`votes.jsonl`): where they agree on something else than the label,
the label or the definition is in doubt.
"""

import math
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple, assert_never

from evaluation.contract.parse import parse
from training.artifacts import Finished, StageFailed, write_jsonl
from training.config import EndpointTeacher, PrivilegedTeacher, StageManifest, Teacher, Traces
from training.data import (
    NO_CATEGORY,
    Example,
    Trace,
    balanced_choice,
    count_by_category,
    hint_for,
    make_example,
    read_labelled,
)
from training.judge import Quality, judge
from training.model import code_pool, load_tokenizer
from training.progress import Events
from training.protocol import TRACES, FailureCode
from training.teachers.endpoint import Asked, Endpoint
from training.teachers.paid import Account, Answers
from training.teachers.privileged import HintKind, with_attempt, with_hint

_UNREADABLE = "unreadable"


class Written(NamedTuple):
    """What one teacher wrote for one example; errored: requests that brought nothing; unpaid: that were not sent.

    tokens: None where the teacher's server did not count them. cached: responses that had been paid for before.
    """

    example: Example
    responses: list[str]
    tokens: int | None
    errored: int = 0
    unpaid: int = 0
    cached: int = 0


class Kept(NamedTuple):
    trace: Trace
    quality: Quality


class Board:
    """What came of each conversation so far."""

    def __init__(self, examples: list[Example]):
        self.examples = {example.conversation.id: example for example in examples}
        self.kept: dict[str, Kept] = {}
        self.failed: dict[str, str] = {}  # the first response that was not kept, for one who corrects
        self.votes: dict[str, Counter[str]] = defaultdict(Counter)
        self.tried: dict[str, set[str]] = defaultdict(set)  # by teacher
        self.counts: Counter[str] = Counter()

    def open(self, ask_all: bool) -> list[Example]:
        """In their order. ask_all: those that have a trace too."""
        return [e for key, e in self.examples.items() if ask_all or key not in self.kept]

    def add(self, written: Written, teacher: Teacher, name: str) -> None:
        key = written.example.conversation.id
        self.tried[name].add(key)
        self.counts.update(responses=len(written.responses), errored=written.errored)
        self.counts.update(unpaid=written.unpaid, cached=written.cached)
        self.counts.update({"uncounted": 1} if written.tokens is None else {"tokens": written.tokens})
        if teacher.hint is HintKind.none:
            self.votes[key].update(_answer(text, written.example) for text in written.responses)
        best = select(written, name)
        if best is not None and (key not in self.kept or _rank(best) < _rank(self.kept[key])):
            self.kept[key] = best
        bad = [text for text in written.responses if judge(text, written.example) is None]
        if bad:
            self.failed.setdefault(key, bad[0])


def run(manifest: StageManifest, stage: Traces, events: Events) -> Finished:
    rng = random.Random(manifest.seed)
    labelled = read_labelled(manifest.conversations, manifest.category_schema)
    chosen = balanced_choice(labelled.conversations, stage.limit, rng)
    pool = code_pool(load_tokenizer(manifest.base), len(manifest.category_schema.answers))
    board = Board([make_example(c, manifest.category_schema, pool, rng, perturb=False) for c in chosen])
    account = Account(stage.max_usd)
    deadline = math.inf if stage.max_seconds is None else time.monotonic() + stage.max_seconds
    for number, teacher in enumerate(stage.teachers):
        asked = board.open(stage.ask == "all")
        name = f"{number + 1}:{_name(teacher)}" if len(stage.teachers) > 1 else _name(teacher)
        done = 0
        batches = _written(manifest, stage, teacher, asked, board, account)
        while time.monotonic() < deadline and (batch := next(batches, None)) is not None:
            for written in batch:
                board.add(written, teacher, name)
            done += len(batch)
            events.write(
                "progress",
                step=done,
                total_steps=len(asked),
                message=f"teacher {name}" if len(stage.teachers) > 1 else "",
                metrics={"kept": len(board.kept)},
            )
    return _finish(manifest, board, account)


def _finish(manifest: StageManifest, board: Board, account: Account) -> Finished:
    tried = set[str]().union(*board.tried.values())
    counts = board.counts
    if not board.kept:
        raise StageFailed(
            FailureCode.no_traces,
            f"not one of {counts['responses']} responses to {len(tried)} conversations had the right answer with a "
            "true quotation; use a stronger teacher, more samples, or check that labels and definitions agree",
        )
    kept = [board.kept[key] for key in board.examples if key in board.kept]
    write_jsonl(manifest.out / TRACES, [k.trace.as_row() for k in kept])
    of_tried = count_by_category([e.gold for key, e in board.examples.items() if key in tried])
    of_kept = count_by_category([k.trace.category for k in kept])
    by_teacher = Counter(k.trace.teacher for k in kept)
    metrics: dict[str, Any] = {
        "kept": len(kept),
        "tried": len(tried),
        "without_yield": len(tried) - len(kept),
        "not_reached": len(board.examples) - len(tried),
        **{name: counts[name] for name in ("responses", "errored", "unpaid", "cached")},
        "quality": {q.value: sum(k.quality is q for k in kept) for q in Quality},
        "yield_by_category": {name: [of_kept.get(name, 0), n] for name, n in of_tried.items()},
        "yield_by_teacher": {name: [by_teacher[name], len(ids)] for name, ids in board.tried.items()},
        "usd": round(account.spent_usd, 6),
    }
    return Finished(
        len(tried), None if counts["uncounted"] else counts["tokens"], metrics | _votes(manifest, board)
    )


def _votes(manifest: StageManifest, board: Board) -> dict[str, Any]:
    """Written beside the traces, and summed up; nothing where every teacher was told the answer."""
    if not board.votes:
        return {}
    rows, agreements, disputed = [], [], 0
    for key, votes in board.votes.items():
        label = board.examples[key].gold or NO_CATEGORY
        agreement = votes[label] / votes.total() if votes.total() else None
        rows.append({"id": key, "label": label, "votes": dict(votes.most_common()), "agreement": agreement})
        agreements += [agreement] if agreement is not None else []
        others = [n for answer, n in votes.items() if answer not in (label, _UNREADABLE)]
        disputed += not votes[label] and max(others, default=0) >= 2
    write_jsonl(manifest.out / "votes.jsonl", rows)
    mean = sum(agreements) / len(agreements) if agreements else None
    return {"agreement": mean and round(mean, 4), "disputed_labels": disputed}


def _rank(kept: Kept) -> int:
    return list(Quality).index(kept.quality)


def _answer(text: str, example: Example) -> str:
    answer = parse(text, example.schema, example.prompt.codes)
    return _UNREADABLE if answer.failure is not None else answer.category or NO_CATEGORY


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


def _written(
    manifest: StageManifest,
    stage: Traces,
    teacher: Teacher,
    examples: list[Example],
    board: Board,
    account: Account,
) -> Iterator[list[Written]]:
    if not examples:
        return iter(())
    match teacher:
        case PrivilegedTeacher():
            return _from_model(manifest, stage, teacher, examples)
        case EndpointTeacher():
            endpoint = Endpoint(teacher, account, Answers(manifest.answers))
            return _from_endpoint(stage, teacher, endpoint, examples, board.failed)
    assert_never(teacher)


def _from_model(
    manifest: StageManifest, stage: Traces, teacher: PrivilegedTeacher, examples: list[Example]
) -> Iterator[list[Written]]:
    # Imported here because an endpoint's traces need no model in this process.
    from training.model import load_writer, prompt_tokens, uses_bf16
    from training.rollouts import Sampling, sample
    from training.settings import Precision

    adapter = manifest.adapter if teacher.model is None else None
    model, tokenizer = load_writer(teacher.model or manifest.base, adapter, manifest.seed)
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
    stage: Traces,
    teacher: EndpointTeacher,
    endpoint: Endpoint,
    examples: list[Example],
    failed: dict[str, str],
) -> Iterator[list[Written]]:
    size = max(1, teacher.concurrency * 4 // stage.samples)
    how = Asked(stage.samples, stage.temperature, stage.max_new_tokens)
    for start in range(0, len(examples), size):
        batch = examples[start : start + size]
        prompts = [with_hint(e.prompt, hint_for(e, teacher.hint)) for e in batch]
        if teacher.corrects:
            wrong = [failed.get(example.conversation.id) for example in batch]
            prompts = [p if w is None else with_attempt(p, w) for p, w in zip(prompts, wrong, strict=True)]
        replies = endpoint.answers(prompts, how)
        yield [Written(example, *reply) for example, reply in zip(batch, replies, strict=True)]


def _name(teacher: Teacher) -> str:
    if isinstance(teacher, EndpointTeacher):
        return f"endpoint:{teacher.model}"
    return f"{'self' if teacher.model is None else teacher.model}:{teacher.hint.value}"
