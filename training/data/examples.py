"""From labelled conversations to what a stage trains on. Torch-free.

Codes are drawn anew for every example (in SFT for every few that share a prompt), in every stage, so that no adapter
can tie a code to a meaning. A trace is rewritten for them, or keeps its own, which were drawn too (see `mentions`).
"""

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from evaluation.contract.perturb import Perturbed, for_training, identity, lacking, shuffle
from evaluation.contract.record import Conversation, parse_jsonl
from evaluation.contract.render import ChatMessage, Prompt, render
from evaluation.contract.schema import CategorySchema
from training.artifacts import StageFailed
from training.data import mentions
from training.protocol import FailureCode
from training.teachers.privileged import (
    Hint,
    HintKind,
    answer_hint,
    criterion_hint,
    demonstration_hint,
    document_hint,
    no_hint,
)

T = TypeVar("T")

NO_CATEGORY = "none_of_these"  # the answer that no category fits, where counts are named
LEFT_OUT = "left_out"  # in a row of a traces.jsonl that is no trace: why its conversation is not learned from


class Example(NamedTuple):
    """A conversation under one schema and one drawing of codes, with the answer that is right there."""

    conversation: Conversation
    perturbed: Perturbed
    prompt: Prompt
    gold: str | None

    @property
    def schema(self) -> CategorySchema:
        return self.perturbed.schema

    @property
    def gold_code(self) -> str:
        return self.prompt.codes[self.schema.answers.index(self.gold)]


class Rendering(NamedTuple):
    """How a schema is shown: one perturbation, or none, and one drawing of codes, aligned with its answers."""

    perturbed: Perturbed
    codes: tuple[str, ...]

    def example(self, conversation: Conversation) -> Example:
        prompt = render(self.perturbed.schema, conversation, self.codes)
        return Example(conversation, self.perturbed, prompt, self.perturbed.gold(conversation.category))


class LabelledConversations(NamedTuple):
    conversations: list[Conversation]
    rejected: int
    unlabelled: int


class Trace(NamedTuple):
    """A kept response. prompt: the messages it answers, without any hint."""

    id: str
    prompt: list[ChatMessage]
    completion: str
    codes: tuple[str, ...]
    category: str | None
    teacher: str
    attempt: int

    def as_row(self) -> dict[str, Any]:
        return {**self._asdict(), "codes": list(self.codes)}


def read_labelled(
    path: Path, schema: CategorySchema, left_out: frozenset[str] = frozenset()
) -> LabelledConversations:
    """left_out: ids of conversations that are passed over.

    Raises: StageFailed where there is no file or not one labelled conversation.
    """
    parsed = parse_jsonl(_read(path), schema)
    labelled = [c for c in parsed.conversations if c.labelled and c.id not in left_out]
    if not labelled:
        reason = f"; line {parsed.rejects[0].line}: {parsed.rejects[0].reason}" if parsed.rejects else ""
        raise StageFailed(
            FailureCode.no_examples, f"{path} has no conversation with a label of this schema{reason}"
        )
    unlabelled = sum(not c.labelled for c in parsed.conversations)
    return LabelledConversations(labelled, len(parsed.rejects), unlabelled)


def read_left_out(path: Path | None) -> frozenset[str]:
    """Ids of the conversations in a traces.jsonl that are not to be learned from, whose labels are in doubt."""
    rows = [] if path is None else map(json.loads, _read(path).splitlines())
    return frozenset(row["id"] for row in rows if LEFT_OUT in row)


class ReadTraces(NamedTuple):
    """contradictory: how many were left out because they answer something else than their label or their reasoning."""

    traces: list[Trace]
    contradictory: int


def read_traces(path: Path, schema: CategorySchema) -> ReadTraces:
    """Raises: StageFailed where there is none to learn from, or where one was made for another schema."""
    traces, contradictory = [], 0
    for line in _read(path).splitlines():
        row = json.loads(line)
        if LEFT_OUT in row:
            continue
        known = {name: row[name] for name in Trace._fields}
        trace = Trace(**(known | {"codes": tuple(row["codes"])}))
        if trace.category not in schema.answers or len(trace.codes) != len(schema.answers):
            raise StageFailed(
                FailureCode.no_traces, f"trace {trace.id} is not one of this schema; make traces for it again"
            )
        if mentions.contradicts(trace.completion, _context(trace, schema), trace.category):
            contradictory += 1
        else:
            traces.append(trace)
    if not traces:
        found = f"has {contradictory} traces, and each contradicts itself" if contradictory else "is empty"
        raise StageFailed(
            FailureCode.no_traces,
            f"{path} {found}; see the yield a category in the traces stage's result.json",
        )
    return ReadTraces(traces, contradictory)


def traces_by_id(path: Path | None, schema: CategorySchema) -> dict[str, Trace]:
    """By the conversation's id; nothing where there is no file. Raises: StageFailed."""
    return {} if path is None else {trace.id: trace for trace in read_traces(path, schema).traces}


class GeneralPrompt(NamedTuple):
    """One that is not under the tenant's schema. context: what a teacher is shown besides; empty for nothing."""

    messages: list[ChatMessage]
    context: str = ""


def read_general(path: Path, contexts: Path | None = None) -> list[GeneralPrompt]:
    """With contexts, those of the prompts whose id has one.

    Raises: StageFailed where there is none, or a line is none.
    """
    messages = _read_each(path, "messages", list)
    if contexts is None:
        return [GeneralPrompt(one) for one in messages]
    known = read_contexts(contexts)
    ids = _read_each(path, "id", str)
    found = [GeneralPrompt(one, known[key]) for key, one in zip(ids, messages, strict=True) if key in known]
    if not found:
        raise StageFailed(FailureCode.no_examples, f"no prompt of {path} has an id of those in {contexts}")
    return found


class AnsweredPrompt(NamedTuple):
    messages: list[ChatMessage]
    response: str


def read_answered(path: Path) -> list[AnsweredPrompt]:
    """Prompts that are not under the tenant's schema, with what is learned to answer. Raises: StageFailed."""
    messages, responses = _read_each(path, "messages", list), _read_each(path, "response", str)
    return [AnsweredPrompt(*pair) for pair in zip(messages, responses, strict=True)]


def read_texts(path: Path) -> list[str]:
    """What a tenant knows. Raises: StageFailed where there is nothing, or a line is no text."""
    return _read_each(path, "text", str)


def read_contexts(path: Path) -> dict[str, str]:
    """What a teacher is shown beside the prompt, by the conversation's id. Raises: StageFailed."""
    ids, texts = _read_each(path, "id", str), _read_each(path, "text", str)
    return dict(zip(ids, texts, strict=True))


def _read_each(path: Path, name: str, kind: type[T]) -> list[T]:
    """One value of each line's object."""
    found: list[T] = []
    for number, line in enumerate(_read(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)[name]
        except (ValueError, KeyError, TypeError):
            value = None
        if not isinstance(value, kind) or not value:
            raise StageFailed(
                FailureCode.input_not_found,
                f'{path}, line {number}: a line is {{"{name}": …}}, with something in it',
            )
        found.append(value)
    if not found:
        raise StageFailed(FailureCode.no_examples, f'{path} is empty; give lines of {{"{name}": …}}')
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StageFailed(FailureCode.input_not_found, f"{path} cannot be read: {error.strerror}") from error


def draw_rendering(
    schema: CategorySchema, pool: tuple[str, ...], rng: random.Random, perturb: bool
) -> Rendering:
    return _coded(for_training(schema, rng) if perturb else identity(schema), pool, rng)


def draw_lacking(schema: CategorySchema, pool: tuple[str, ...], rng: random.Random) -> Rendering:
    return _coded(lacking(shuffle(schema, rng).schema, rng), pool, rng)


def _coded(perturbed: Perturbed, pool: tuple[str, ...], rng: random.Random) -> Rendering:
    return Rendering(perturbed, tuple(rng.sample(pool, len(perturbed.schema.answers))))


def make_example(
    conversation: Conversation,
    schema: CategorySchema,
    pool: tuple[str, ...],
    rng: random.Random,
    perturb: bool,
) -> Example:
    return draw_rendering(schema, pool, rng, perturb).example(conversation)


def drawn(conversations: list[Conversation], balance: bool, rng: random.Random) -> Iterator[Conversation]:
    """Without end: every category as often as any other, or all in turn, in the shares that the labels have."""
    return balanced(conversations, rng) if balance else in_turn(conversations, rng)


def balanced(conversations: list[Conversation], rng: random.Random) -> Iterator[Conversation]:
    """Without end, every category as often as any other, each going round its conversations in random order."""
    by_category: dict[str | None, list[Conversation]] = defaultdict(list)
    for conversation in conversations:
        by_category[conversation.category].append(conversation)
    rounds = [in_turn(members, rng) for members in by_category.values()]
    while True:
        for members in rng.sample(rounds, len(rounds)):
            yield next(members)


def in_turn(members: list[T], rng: random.Random) -> Iterator[T]:
    """Without end, round after round in random orders."""
    while True:
        yield from rng.sample(members, len(members))


def choice(
    conversations: list[Conversation], limit: int | None, balance: bool, rng: random.Random
) -> list[Conversation]:
    """At most `limit` different conversations, in random order, with or without regard to their categories."""
    if balance:
        return balanced_choice(conversations, limit, rng)
    return rng.sample(conversations, min(limit or len(conversations), len(conversations)))


def balanced_choice(
    conversations: list[Conversation], limit: int | None, rng: random.Random
) -> list[Conversation]:
    """At most `limit` different conversations, taking turns between the categories until one has no more."""
    by_category: dict[str | None, list[Conversation]] = defaultdict(list)
    for conversation in rng.sample(conversations, len(conversations)):
        by_category[conversation.category].append(conversation)
    turns = [(turn, c) for members in by_category.values() for turn, c in enumerate(members)]
    turns.sort(key=lambda pair: pair[0])
    return [c for _, c in turns[: limit or len(turns)]]


def hint_for(example: Example, kind: HintKind, text: str | None = None) -> Hint:
    """text: the demonstration, for which the criterion stands in where there is none, or the document."""
    if kind is HintKind.none:
        return no_hint()
    if kind is HintKind.answer:
        return answer_hint(example.gold_code)
    if kind is HintKind.document:
        return document_hint(text or "")
    if kind is HintKind.demonstration and text is not None:
        return demonstration_hint(text)
    return criterion_hint(example.schema, example.prompt.codes, example.gold, example.conversation.criterion)


class Taught(NamedTuple):
    """A trace as it is learned: the example that it answers, and its text. moved: under the example's own codes."""

    example: Example
    text: str
    moved: bool


def taught(trace: Trace, original: CategorySchema, example: Example) -> Taught:
    """The trace under the codes and the perturbation of `example`, or, where its prose does not allow that, under its
    own codes and the schema as it is."""
    text = retarget(trace, original, example)
    if text is not None:
        return Taught(example, text, True)
    home = Rendering(identity(original), trace.codes)
    return Taught(home.example(example.conversation), trace.completion, False)


def retarget(trace: Trace, original: CategorySchema, example: Example) -> str | None:
    """The trace's text with the codes of `example`, whose schema is a perturbation of `original`.

    Each code follows its meaning. Conditions keep their words under every perturbation that training uses, so the
    quotes stay true. None where that cannot be had: a place that may be a code or not, a category that is called by a
    name or a place which is now another's, or a text that contradicts itself after it was rewritten.
    """
    context = _context(trace, original)
    found = mentions.find(trace.completion, context)
    now = [example.schema.answers.index(example.perturbed.gold(answer)) for answer in original.answers]
    codes = [example.prompt.codes[place] for place in now]
    names = [example.schema.categories[place].name for place in now[: len(original.categories)]]
    if found.doubtful or (
        names != [category.name for category in original.categories]
        and mentions.names_categories(trace.completion, context)
    ):
        return None
    if now != sorted(now) and mentions.counts_places(trace.completion, context):
        return None
    text = mentions.rewritten(trace.completion, found.mentions, dict(zip(trace.codes, codes, strict=True)))
    after = mentions.AnswerContext(example.schema, example.prompt.codes, context.customer)
    return None if mentions.contradicts(text, after, example.gold) else text


def _context(trace: Trace, schema: CategorySchema) -> mentions.AnswerContext:
    return mentions.AnswerContext(schema, trace.codes, trace.prompt[-1]["content"])


def count_by_category(categories: list[str | None]) -> dict[str, int]:
    return {category or NO_CATEGORY: n for category, n in Counter(categories).most_common()}
