"""Traces: responses with the right answer, written for the tenant's own conversations.

Teachers answer every labelled conversation some times, and the label judges: what is kept answers rightly, quotes
words that really stand in the conversation, and names a condition of the right category. The default teacher is the
model itself, shown the answer and, where the label leaves no doubt about it, the condition behind it (the least hint
that lets it justify the answer); the kept prompt is without the hint. Endpoints with stronger models do better where
there are some: self-distilled rationales of a small model are known to be the weaker teacher.

What the tenant brings itself (`files`, see `teachers.experts`) comes first and is judged by the same rules. A row that
says that a label contradicts the schema takes its conversation out of all that is learned from; it and every row that
is not kept are listed with the reason (`review.jsonl`).

Several teachers are asked in their order, each for what is left, so that a dear one is paid only for what a cheap one
cannot do; or all are asked for everything. With the student itself as the first one (`privileged`, hint `none`) and
one that `corrects` after it, that is a round of DAgger (Ross et al., arXiv 1011.0686): the student's own rollouts,
annotated anew where they are wrong.

Which responses are taken: among those with the right answer, one that also quotes customer and condition truly,
before one that only names the condition, before one that only quotes. A right answer without either is a guess and
is not kept. Conversations that yield nothing are counted by category; nothing is made up for them. What teachers
without a hint answered is kept beside the traces (`votes.jsonl`): where they agree on something else than the label,
the label or the definition is in doubt.

Conversations are shown by the dozen under one drawing of the codes, so that the schema is read once for all of them.
When `max_seconds` is over, what is still being written is dropped.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, assert_never

from evaluation.contract.parse import parse
from evaluation.contract.record import Conversation
from evaluation.contract.render import ChatMessage
from evaluation.contract.schema import CategorySchema
from training.artifacts import Finished, StageFailed, write_jsonl
from training.config import EndpointTeacher, NamedTeacher, PrivilegedTeacher, StageManifest, Teacher, Traces
from training.data.examples import (
    LEFT_OUT,
    NO_CATEGORY,
    Example,
    Trace,
    choice,
    count_by_category,
    draw_rendering,
    hint_for,
    read_labelled,
    retarget,
    traces_by_id,
)
from training.data.trace_filter import Quality, quality_of, refusal
from training.engine.deadline import Deadline
from training.engine.model import code_pool, load_tokenizer, load_writer, prompt_tokens, uses_bf16
from training.engine.progress import EventWriter
from training.generation.rollouts import Sampling, Watched, sample
from training.protocol import COSTS, TRACES, FailureCode
from training.settings import Precision
from training.teachers import experts
from training.teachers.endpoint import TeacherEndpoint, TeacherRequest
from training.teachers.paid import Account, PaidAnswers
from training.teachers.privileged import HintKind, with_attempt, with_hint

REVIEW = "review.jsonl"
_UNREADABLE = "unreadable"

Hinted = Callable[[Example], list[ChatMessage]]
"""The prompt as a teacher reads it."""


class TeacherResponses(NamedTuple):
    """What one teacher wrote for one example; errored: requests that brought nothing; unpaid: that were not sent.

    tokens: None where the teacher's server did not count them. cached: responses that had been paid for before. late:
    those that had not ended by the deadline.
    """

    example: Example
    responses: list[str]
    tokens: int | None
    errored: int = 0
    unpaid: int = 0
    cached: int = 0
    late: int = 0


class Kept(NamedTuple):
    trace: Trace
    quality: Quality


class Board:
    """What came of each conversation so far."""

    def __init__(self) -> None:
        self.examples: dict[str, Example] = {}
        self.kept: dict[str, Kept] = {}
        self.failed: dict[str, str] = {}  # the first response that was not kept, for one who corrects
        self.votes: dict[str, Counter[str]] = defaultdict(Counter)
        self.tried: dict[str, set[str]] = defaultdict(set)  # by teacher
        self.counts: Counter[str] = Counter()
        self.left_out: dict[str, str] = {}  # why
        self.review: list[dict[str, str | None]] = []

    def put(self, examples: list[Example]) -> None:
        self.examples |= {example.conversation.id: example for example in examples}

    def note(self, key: str, example: Example | None, source: str, reason: str) -> None:
        label = None if example is None else example.gold or NO_CATEGORY
        self.review.append({"id": key, "label": label, "source": source, "reason": reason})

    def leave_out(self, example: Example, source: str, reason: str) -> None:
        key = example.conversation.id
        self.left_out[key] = reason
        self.kept.pop(key, None)
        self.note(key, example, source, reason)

    def open(self, ask_all: bool) -> list[Example]:
        """In their order. ask_all: those that have a trace too."""
        return [e for key, e in self.examples.items() if ask_all or key not in self.kept]

    def add(self, written: TeacherResponses, name: str, *, votes: bool) -> None:
        key = written.example.conversation.id
        if written.responses or not written.late:
            self.tried[name].add(key)
        self.counts.update(responses=len(written.responses), errored=written.errored)
        self.counts.update(unpaid=written.unpaid, cached=written.cached, late=written.late)
        self.counts.update({"uncounted": 1} if written.tokens is None else {"tokens": written.tokens})
        if votes:
            self.votes[key].update(_answer(text, written.example) for text in written.responses)
        best = select(written, name)
        if best is not None and (key not in self.kept or _rank(best) < _rank(self.kept[key])):
            self.kept[key] = best
        bad = [text for text in written.responses if quality_of(text, written.example) is None]
        if bad:
            self.failed.setdefault(key, bad[0])


def run(manifest: StageManifest, stage: Traces, events: EventWriter) -> Finished:
    rng, schema = random.Random(manifest.seed), manifest.category_schema
    deadline = Deadline.after(stage.max_seconds)
    labelled = read_labelled(manifest.conversations, schema).conversations
    pool = code_pool(load_tokenizer(manifest.base), len(schema.answers))
    drawing = _Drawing(schema, pool, rng, stage.examples_per_schema)
    board, account = Board(), Account(stage.max_usd)
    _bring(stage, labelled, drawing, board)
    if stage.files:
        said = (
            f"{len(board.kept)} traces of the files are kept, {len(board.review)} rows are listed for review"
        )
        events.write("progress", message=f"{said} in {REVIEW}")
    left = None if stage.limit is None else max(0, stage.limit - len(board.kept))
    without = [c for c in labelled if c.id not in board.kept and c.id not in board.left_out]
    if stage.teachers and left != 0:
        board.put(drawing.examples(choice(without, left, stage.balance, rng)))
    for number, teacher in enumerate(stage.teachers):
        asked = board.open(stage.ask == "all")
        name = f"{number + 1}:{_name(teacher)}" if len(stage.teachers) > 1 else _name(teacher)
        told = _Told(events, f"teacher {name}" if len(stage.teachers) > 1 else "", len(asked), account)
        batches = _written(manifest, stage, teacher, asked, board, account, Watched(deadline, told.say))
        while not deadline.passed and (batch := next(batches, None)) is not None:
            for written in batch:
                board.add(written, name, votes=teacher.hint is HintKind.none)
            told.add(len(batch), len(board.kept))
    return _finish(manifest, board, account, deadline)


class _Drawing:
    """Draws codes anew for every few conversations, under the tenant's own schema."""

    def __init__(self, schema: CategorySchema, pool: tuple[str, ...], rng: random.Random, size: int):
        self._schema, self._pool, self._rng, self._size = schema, pool, rng, size

    def examples(self, conversations: list[Conversation]) -> list[Example]:
        found = []
        for start in range(0, len(conversations), self._size):
            rendering = draw_rendering(self._schema, self._pool, self._rng, perturb=False)
            found += [rendering.example(c) for c in conversations[start : start + self._size]]
        return found


class _Told:
    """Says how far a teacher is: after each batch, and within it."""

    def __init__(self, events: EventWriter, teacher: str, total: int, account: Account):
        self._events, self._teacher, self._total, self._account = events, teacher, total, account
        self._done = self._kept = 0

    def add(self, done: int, kept: int) -> None:
        self._done, self._kept = self._done + done, kept
        self.say("")

    def say(self, message: str) -> None:
        self._events.write(
            "progress",
            step=self._done,
            total_steps=self._total,
            message=", ".join(filter(None, [self._teacher, message])),
            metrics={"kept": self._kept} | _costs(self._account),
        )


def _costs(account: Account) -> dict[str, float]:
    """Of each endpoint so far; nothing where nobody was paid."""
    return {f"{COSTS}{name}": round(usd, 9) for name, usd in account.usd_by_teacher.items()}


def _bring(stage: Traces, labelled: list[Conversation], drawing: _Drawing, board: Board) -> None:
    """What the tenant's files hold, judged; what is not learned from is listed with the reason."""
    known = {conversation.id: conversation for conversation in labelled}
    rows = sorted(experts.read(stage.files), key=lambda row: not row[1].label_wrong)
    there = list({row.id: known[row.id] for _, row in rows if row.id in known}.values())
    examples = {example.conversation.id: example for example in drawing.examples(there)}
    for file, row in rows:
        example = examples.get(row.id)
        if example is None:
            board.note(row.id, None, file, "no labelled training conversation has this id")
        elif row.label_wrong:
            board.leave_out(
                example, file, "whoever wrote the trace says that the label contradicts the schema"
            )
        elif row.id not in board.left_out:
            _filter_expert(row, example, file, board)


def _filter_expert(row: experts.Expert, example: Example, file: str, board: Board) -> None:
    try:
        text = row.response(example)
    except ValueError as error:
        board.note(row.id, example, file, str(error))
        return
    if quality_of(text, example) is None:
        board.note(row.id, example, file, refusal(text, example))
        return
    board.put([example])
    board.add(TeacherResponses(example, [text], 0), f"file:{file}", votes=False)


def _finish(manifest: StageManifest, board: Board, account: Account, deadline: Deadline) -> Finished:
    tried = set[str]().union(*board.tried.values())
    counts = board.counts
    reached = len(tried) == len(board.examples)
    votes = _votes(manifest, board)
    if board.review:
        write_jsonl(manifest.out / REVIEW, board.review)
    if not board.kept and deadline.passed and not counts["responses"]:
        raise StageFailed(
            FailureCode.no_time,
            f"max_seconds passed before one of {len(board.examples)} conversations was answered; raise "
            "traces.max_seconds, or lower traces.max_new_tokens",
        )
    if not board.kept:
        ended = "" if reached else f" in max_seconds ({len(board.examples) - len(tried)} were not reached)"
        raise StageFailed(
            FailureCode.no_traces,
            f"not one of {counts['responses']} responses to {len(tried)} conversations{ended} had the right answer "
            "with a true quotation; use a stronger teacher, more samples, or check that labels and definitions agree",
        )
    kept = [board.kept[key] for key in board.examples if key in board.kept]
    left_out = [{"id": key, LEFT_OUT: why} for key, why in board.left_out.items()]
    write_jsonl(manifest.out / TRACES, [k.trace.as_row() for k in kept] + left_out)
    of_tried = count_by_category([e.gold for key, e in board.examples.items() if key in tried])
    of_kept = count_by_category([k.trace.category for k in kept])
    by_teacher = Counter(k.trace.teacher for k in kept)
    metrics: dict[str, Any] = {
        "kept": len(kept),
        "tried": len(tried),
        "without_yield": len(tried) - len(kept),
        "not_reached": len(board.examples) - len(tried),
        **{name: counts[name] for name in ("responses", "errored", "unpaid", "cached", "late")},
        "without_demonstration": counts["without_demonstration"],
        "quality": {q.value: sum(k.quality is q for k in kept) for q in Quality},
        "yield_by_category": {name: [of_kept.get(name, 0), n] for name, n in of_tried.items()},
        "yield_by_teacher": {name: [by_teacher[name], len(ids)] for name, ids in board.tried.items()},
        "usd": round(account.spent_usd, 6),
        "stopped_by": "end" if reached or not deadline.passed else "max_seconds",
        "left_out": len(left_out),
        "for_review": len(board.review),
    }
    metrics |= _costs(account) | votes
    return Finished(len(tried), None if counts["uncounted"] else counts["tokens"], metrics)


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
        others = Counter({answer: n for answer, n in votes.items() if answer not in (label, _UNREADABLE)})
        if not votes[label] and max(others.values(), default=0) >= 2:
            disputed += 1
            answer, count = others.most_common(1)[0]
            told = (
                f"answered {answer} {count} times, and the label not once, by teachers who were not told it"
            )
            board.note(key, board.examples[key], "teachers", told)
    write_jsonl(manifest.out / "votes.jsonl", rows)
    mean = sum(agreements) / len(agreements) if agreements else None
    return {"agreement": mean and round(mean, 4), "disputed_labels": disputed}


def _rank(kept: Kept) -> int:
    return list(Quality).index(kept.quality)


def _answer(text: str, example: Example) -> str:
    answer = parse(text, example.schema, example.prompt.codes)
    return _UNREADABLE if answer.failure is not None else answer.category or NO_CATEGORY


def select(written: TeacherResponses, teacher: str) -> Kept | None:
    """The best response with the right answer; of equally good ones the first."""
    example = written.example
    judged = [(quality_of(text, example), n) for n, text in enumerate(written.responses)]
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
    watched: Watched,
) -> Iterator[list[TeacherResponses]]:
    if not examples:
        return iter(())
    schema = manifest.category_schema
    demonstrations = traces_by_id(stage.demonstrations, schema)

    def hinted(example: Example) -> list[ChatMessage]:
        trace = demonstrations.get(example.conversation.id)
        shown = None if trace is None else retarget(trace, schema, example)
        if teacher.hint is HintKind.demonstration and shown is None:
            board.counts["without_demonstration"] += 1  # it is shown the criterion instead
        return with_hint(example.prompt, hint_for(example, teacher.hint, shown))

    match teacher:
        case PrivilegedTeacher():
            return _from_model(manifest, stage, teacher, examples, hinted, watched)
        case EndpointTeacher():
            endpoint = TeacherEndpoint(teacher, account, PaidAnswers(manifest.answers))
            return _from_endpoint(stage, teacher, endpoint, examples, hinted, board.failed, watched.deadline)
        case NamedTeacher():
            raise AssertionError("a manifest has none")
    assert_never(teacher)


def _from_model(
    manifest: StageManifest,
    stage: Traces,
    teacher: PrivilegedTeacher,
    examples: list[Example],
    hinted: Hinted,
    watched: Watched,
) -> Iterator[list[TeacherResponses]]:
    adapter = manifest.adapter if teacher.model is None else None
    model, tokenizer = load_writer(teacher.model or manifest.base, adapter, manifest.seed)
    sampling = Sampling(stage.temperature, stage.max_new_tokens, stage.batch_size, uses_bf16(Precision.auto))
    size, end = max(1, stage.batch_size // stage.samples), tokenizer.eos_token_id

    def written(example: Example, prompt: list[int], responses: list[list[int]]) -> TeacherResponses:
        ended = [tokens for tokens in responses if tokens and tokens[-1] == end]
        whole = [tokens for tokens in responses if len(tokens) == stage.max_new_tokens and tokens[-1] != end]
        texts = [tokenizer.decode(tokens, skip_special_tokens=True) for tokens in ended]
        late = len(responses) - len(ended) - len(whole)
        read = len(prompt) if any(responses) else 0
        return TeacherResponses(example, texts, read + sum(map(len, responses)), late=late)

    for start in range(0, len(examples), size):
        chosen = examples[start : start + size]
        prompts = [prompt_tokens(tokenizer, hinted(e)) for e in chosen]
        texts = sample(model, prompts, stage.samples, sampling, [end], tokenizer.pad_token_id, watched)
        yield [
            written(example, prompt, texts[n * stage.samples : (n + 1) * stage.samples])
            for n, (example, prompt) in enumerate(zip(chosen, prompts, strict=True))
        ]


def _from_endpoint(
    stage: Traces,
    teacher: EndpointTeacher,
    endpoint: TeacherEndpoint,
    examples: list[Example],
    hinted: Hinted,
    failed: dict[str, str],
    deadline: Deadline,
) -> Iterator[list[TeacherResponses]]:
    size = max(1, teacher.concurrency * 4 // stage.samples)
    how = TeacherRequest(stage.samples, stage.temperature, stage.max_new_tokens)
    for start in range(0, len(examples), size):
        batch = examples[start : start + size]
        prompts = [hinted(example) for example in batch]
        if teacher.corrects:
            wrong = [failed.get(example.conversation.id) for example in batch]
            prompts = [p if w is None else with_attempt(p, w) for p, w in zip(prompts, wrong, strict=True)]
        replies = endpoint.answers(prompts, how, deadline)
        yield [TeacherResponses(example, *reply) for example, reply in zip(batch, replies, strict=True)]


def _name(teacher: Teacher) -> str:
    if isinstance(teacher, NamedTeacher):
        return teacher.name
    if isinstance(teacher, EndpointTeacher):
        return teacher.name or f"endpoint:{teacher.model}"
    return f"{'self' if teacher.model is None else teacher.model}:{teacher.hint.value}"
