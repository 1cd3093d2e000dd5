"""What a run learns from and is judged by: a schema and conversations, checked and split."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from app.errors import InputError
from evaluation.contract import budget, overlap
from evaluation.contract.overlap import Contradiction, normalised
from evaluation.contract.record import Conversation, Split
from evaluation.contract.schema import CategorySchema
from evaluation.contract.splits import split_of, too_few

_SHOWN = 20
_IDS_SHOWN = 5


class Inputs(NamedTuple):
    """rewordings: the schema in other words, by their origin; only the evaluation reads them."""

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


def check_lengths(inputs: Inputs, codes: tuple[str, ...], count: budget.Count, context_tokens: int) -> None:
    """Raises: InputError where a prompt leaves no room for an answer."""
    conversations = [c for split in Split for c in inputs.splits[split]]
    lengths = budget.lengths(inputs.schema, conversations, codes, count)
    room = budget.room(context_tokens)
    too_long = [(c.id, n) for c, n in zip(conversations, lengths, strict=True) if n > room]
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
