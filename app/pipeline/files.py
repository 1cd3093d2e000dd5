"""What the person hands in: a schema and conversations, read, checked and split before anything is written."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from app.errors import InputError
from evaluation.contract import overlap, strict_json
from evaluation.contract.overlap import Contradiction, normalised
from evaluation.contract.record import Conversation, Reject, Split
from evaluation.contract.render import render
from evaluation.contract.schema import CategorySchema, SchemaError, parse_schema
from evaluation.contract.strict_json import NotJson
from evaluation.formats.incoming import Incoming, Unreadable
from evaluation.formats.reader import Reader

MAX_SCHEMA_BYTES = 16 << 20
MIN_LABELLED = {Split.train: 20, Split.test: 20}
ANSWER_TOKENS = 200
_SHARES = ((0.70, Split.train), (0.80, Split.validation), (0.85, Split.calibration), (1.0, Split.test))
_SHOWN = 20
_IDS_SHOWN = 5


class Inputs(NamedTuple):
    """rewordings: the schema in other words, by their origin; only the examination reads them."""

    schema: CategorySchema
    splits: Mapping[Split, list[Conversation]]
    notices: tuple[str, ...]
    rewordings: Mapping[str, CategorySchema] = {}

    @property
    def sha256(self) -> str:
        digest = hashlib.sha256(self.schema.sha256.encode())
        for split in Split:
            digest.update(f"\n{split}\n".encode() + jsonl(self.splits[split]))
        return digest.hexdigest()


def read_inputs(schema_file: Path, conversations_file: Path, reworded: Sequence[Path] = ()) -> Inputs:
    """Raises: InputError with every problem found, line numbers included."""
    schema = read_schema(schema_file)
    given = read_file(conversations_file, schema)
    try:
        inputs = checked(schema, given.conversations)
    except InputError as error:
        lost = [f"{conversations_file.name} is {given.form}", *given.lost]
        raise InputError(str(error), [*error.details, *lost]) from None
    return inputs._replace(
        notices=(*inputs.notices, *given.lost),
        rewordings={path.name: read_schema(path) for path in reworded},
    )


def checked(schema: CategorySchema, conversations: Sequence[Conversation]) -> Inputs:
    """What says the same as a held-out conversation is not learned from, and what two people label differently is not
    asked. Raises: InputError.
    """
    labelled = [c for c in conversations if c.labelled]
    contradictions = overlap.contradictions(labelled)
    splits, unjudgeable = overlap.judgeable(placed(labelled))
    splits, refused = overlap.parted(splits)
    left_out = [_refusal(split, those) for split, those in refused.items() if those]
    left_out += list(_disputed(contradictions, sum(map(len, unjudgeable.values()))))
    problems = list(too_few({split: Counter(c.category for c in have) for split, have in splits.items()}))
    if problems:
        problems += left_out
        raise InputError("there are too few labelled conversations to train and judge a classifier", problems)
    unlabelled = len(conversations) - len(labelled)
    return Inputs(schema, splits, (*left_out, *_notices(schema, unlabelled, splits)))


def placed(conversations: Iterable[Conversation]) -> dict[Split, list[Conversation]]:
    """By the split that the file names; else by what the customer says, so that copies stand on one side, and a row
    that is put in elsewhere moves no other. A copy of one whose split the file names goes with it.
    """
    texts = [(c, hashlib.sha256(normalised(c).encode()).hexdigest()) for c in conversations]
    named: dict[str, Split] = {}
    for conversation, text in texts:
        if conversation.split is not None:
            others = [named[text]] if text in named else []
            named[text] = overlap.most_held_out([conversation.split, *others])
    splits: dict[Split, list[Conversation]] = {split: [] for split in Split}
    for conversation, text in texts:
        split = conversation.split or named.get(text) or split_of(text)
        splits[split].append(conversation.model_copy(update={"split": split}))
    return splits


def read_schema(path: Path) -> CategorySchema:
    try:
        schema = parse_schema(_content(path, "the schema"))
    except SchemaError as error:
        raise InputError(f"the schema {path} cannot be used", error.problems) from None
    if len(schema.answers) < 2:
        raise InputError(
            f"the schema {path} has one category and no none-of-these: there is nothing to decide"
        )
    return schema


def read_json(path: Path) -> Any:
    """Of a file that is no schema and holds no conversations, but is a person's too. Raises: InputError."""
    try:
        found = strict_json.parse(strict_json.decoded(_content(path, "the file")))
    except NotJson as error:
        raise InputError(f"{path} cannot be used: {error}") from None
    for problem in strict_json.unusable(found):
        raise InputError(f"{path} cannot be used: {problem.where} {problem.message}")
    return found


def read_object(path: Path) -> dict[str, Any]:
    """Raises: InputError."""
    found = read_json(path)
    if not isinstance(found, dict):
        raise InputError(f"{path} must hold one JSON object")
    return found


class Given(NamedTuple):
    """A file of conversations. form: what it was taken for. lost: sentences about what of it nobody reads."""

    conversations: list[Conversation]
    form: str
    lost: tuple[str, ...]


def read_file(path: Path, schema: CategorySchema | None) -> Given:
    """Raises: InputError, also where a single row cannot be used."""
    try:
        if path.stat().st_size == 0:
            raise InputError(f"{path} is empty")
        reader = Reader(path, schema)
        read = list(reader)
    except Unreadable as error:
        raise InputError(f"{path} {error}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    rejects = sorted(one for one in read if isinstance(one, Reject))
    lost = tuple(reader.unread.sentences())
    if rejects:
        taken = f"{path.name} was taken for {reader.form}"
        raise InputError(
            f"{path} has {_count(rejects)} that cannot be used", [*_lines(path, rejects), taken, *lost]
        )
    conversations = [one for one in read if isinstance(one, Conversation)]
    if not conversations:
        raise InputError(f"{path} holds no conversations", [f"it was taken for {reader.form}", *lost])
    return Given(conversations, reader.form, lost)


def split_of(identity: str, shares: Sequence[tuple[float, Split]] = _SHARES) -> Split:
    """By the id alone, so that a conversation stays in its split when the file grows.

    shares: each with the end of its part of [0, 1), in rising order.
    """
    share = int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8], "big") / 2**64
    return next(split for below, split in shares if share < below)


def check_lengths(
    inputs: Inputs, codes: tuple[str, ...], count: Callable[[list[str]], list[int]], limit: int
) -> None:
    """count: tokens of each text. Raises: InputError where a prompt leaves no room for an answer."""
    conversations = [c for split in Split for c in inputs.splits[split]]
    texts = ["\n".join(m["content"] for m in render(inputs.schema, c, codes).messages) for c in conversations]
    room = limit - ANSWER_TOKENS
    too_long = [(c.id, n) for c, n in zip(conversations, count(texts), strict=True) if n > room]
    if too_long:
        shown = [
            f"conversation {identity!r}: {tokens} tokens with the schema"
            for identity, tokens in too_long[:_SHOWN]
        ]
        raise InputError(
            f"{len(too_long)} conversations are longer than {room} tokens; shorten or remove them", shown
        )


def jsonl(conversations: Iterable[Conversation]) -> bytes:
    rows = (c.model_dump(mode="json", exclude_unset=True) for c in conversations)
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def _content(path: Path, what: str) -> bytes:
    found = bytearray()
    try:
        for block in Incoming(path).blocks():
            found += block
            if len(found) > MAX_SCHEMA_BYTES:
                raise InputError(f"{what} {path} is larger than {MAX_SCHEMA_BYTES >> 20} MiB")
    except Unreadable as error:
        raise InputError(f"{what} {path} {error}") from None
    except OSError as error:
        raise InputError(f"{what} {path} cannot be read: {error.strerror}") from None
    if not found.strip():
        raise InputError(f"{what} {path} is empty")
    return bytes(found)


def too_few(counts: Mapping[Split, Mapping[str | None, int]]) -> Iterable[str]:
    """counts: labelled conversations by split and category. Yields what is missing to train and judge, if anything."""
    for split, least in MIN_LABELLED.items():
        have = {category: count for category, count in counts.get(split, {}).items() if count}
        if sum(have.values()) < least:
            yield f"the split {split} has {sum(have.values())} labelled conversations and needs {least}"
        elif len(have) < 2:
            yield f"the split {split} has conversations of one category only ({next(iter(have))!r})"


def _notices(
    schema: CategorySchema, unlabelled: int, splits: Mapping[Split, list[Conversation]]
) -> Iterable[str]:
    if unlabelled:
        yield f"{unlabelled} conversations have no label and are not used"
    seen = Counter(c.category for c in splits[Split.train])
    absent = [str(answer or "none of these") for answer in schema.answers if not seen[answer]]
    if absent:
        yield f"no training conversation for {', '.join(absent)}; only the definition can teach these"


def _refusal(split: Split, refused: Sequence[Conversation]) -> str:
    what = "training" if split is Split.train else split.value
    ids = ", ".join(repr(c.id) for c in refused[:_IDS_SHOWN]) + (", …" if len(refused) > _IDS_SHOWN else "")
    return f"{len(refused)} {what} conversations are left out: they say what a held-out one says (ids {ids})"


def _disputed(found: Sequence[Contradiction], not_asked: int) -> Iterable[str]:
    if found:
        count = sum(len(one.conversations) for one in found)
        yield (
            f"{len(found)} texts have several labels ({count} conversations), such as {_dispute(found[0])}; "
            f"{not_asked} of them are held out and not asked"
        )


def _dispute(one: Contradiction) -> str:
    text = " ".join(one.conversations[0].said[-1].split())
    ids = ", ".join(repr(c.id) for c in one.conversations[:_IDS_SHOWN])
    labels = " and ".join(str(category or "none of these") for category in one.categories)
    return f"{text[:60]!r} (ids {ids}: {labels})"


def _lines(path: Path, rejects: Sequence[Reject]) -> list[str]:
    shown = [f"{path.name}, line {reject.line}: {reject.reason}" for reject in rejects[:_SHOWN]]
    return [*shown, f"… and {len(rejects) - _SHOWN} more"] if len(rejects) > _SHOWN else shown


def _count(rejects: Sequence[Reject]) -> str:
    return "1 line" if len(rejects) == 1 else f"{len(rejects)} lines"
