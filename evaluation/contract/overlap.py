"""Which conversations must not be learned from, and which must not be asked.

Not learned from: those that say what a held-out one says, whatever their labels are. The gate asks the held-out ones,
and who has learned a text with its answer need not read the definitions. Not asked: those whose like has another label.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from evaluation.contract.record import Conversation, Split
from evaluation.contract.text import blank, folded, normalized

LEARNED: Final = (Split.train, Split.validation)
HELD_OUT: Final = (Split.calibration, Split.test)


_HELD_OUT_FIRST: Final = (Split.test, Split.calibration, Split.validation, Split.train)


class Parted(NamedTuple):
    """splits: without what is refused. refused: of each split that is learned from, in its order."""

    splits: dict[Split, list[Conversation]]
    refused: dict[Split, list[Conversation]]


def most_held_out(splits: Iterable[Split]) -> Split:
    """Of one or more. Where copies were put in several, what is held out stays held out, and training loses its own."""
    return min(splits, key=_HELD_OUT_FIRST.index)


def parted(splits: Mapping[Split, Sequence[Conversation]]) -> Parted:
    held_out = [c for split in HELD_OUT for c in splits[split]]
    found = {split: refused(splits[split], held_out) for split in LEARNED}
    ids = {split: {c.id for c in found.get(split, ())} for split in splits}
    return Parted({split: [c for c in splits[split] if c.id not in ids[split]] for split in splits}, found)


def refused(learned: Iterable[Conversation], held_out: Iterable[Conversation]) -> list[Conversation]:
    """Of those that are to be learned from, in their order."""
    asked = {normalised(c) for c in held_out}
    return [c for c in learned if normalised(c) in asked]


class Contradiction(NamedTuple):
    """Conversations that a reader cannot tell apart, with more than one label among them; in their order."""

    conversations: tuple[Conversation, ...]

    @property
    def categories(self) -> tuple[str | None, ...]:
        return tuple(dict.fromkeys(c.category for c in self.conversations))


def contradictions(labelled: Iterable[Conversation]) -> list[Contradiction]:
    found: dict[str, list[Conversation]] = {}
    for conversation in labelled:
        found.setdefault(alike(conversation), []).append(conversation)
    several = (Contradiction(tuple(those)) for those in found.values() if len(those) > 1)
    return [one for one in several if len(one.categories) > 1]


def alike(conversation: Conversation) -> str:
    """Equal for conversations that a reader cannot tell apart. What the model would be shown is compared, and not only
    what the customer says: `yes` may answer anything.
    """
    shown = conversation.as_of_last_customer_message
    said = [f"{m.role.value}: {folded(m.text)}" for m in shown if not blank(m.text)]
    return hashlib.sha256("\n".join(said).encode()).hexdigest()


def judgeable(splits: Mapping[Split, Sequence[Conversation]]) -> Parted:
    """Held-out conversations without those that another one, of any split, labels otherwise: no answer to them is
    right. refused: those, of each held-out split.
    """
    found = contradictions(c for those in splits.values() for c in those)
    ids = {c.id for one in found for c in one.conversations}
    left = {split: [c for c in splits[split] if split not in HELD_OUT or c.id not in ids] for split in splits}
    gone = {split: [c for c in splits[split] if c.id in ids] for split in HELD_OUT if split in splits}
    return Parted(left, gone)


def normalised(conversation: Conversation) -> str:
    """Words of the customer's messages in small letters, without punctuation, every number as 0.

    What an agent says is left out: it is often one greeting for thousands of conversations, and the category depends
    on the customer. Numbers are made equal, because a template with another order number is still the same text.
    """
    return "\n".join(_words(text) or " ".join(text.split()) for text in conversation.said)


def _words(text: str) -> str:
    words = re.findall(r"\w+", normalized("NFKC", text).casefold())
    return re.sub(r"\d+", "0", " ".join(words))
