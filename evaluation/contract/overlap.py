"""Which conversations must not be learned from: those that say what a held-out one says, whatever their labels are.

The gate asks the held-out ones, and who has learned a text with its answer need not read the definitions.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from evaluation.contract.record import Conversation, Split

LEARNED: Final = (Split.train, Split.validation)
HELD_OUT: Final = (Split.calibration, Split.test)


class Parted(NamedTuple):
    """splits: without what is refused. refused: of each split that is learned from, in its order."""

    splits: dict[Split, list[Conversation]]
    refused: dict[Split, list[Conversation]]


def parted(splits: Mapping[Split, Sequence[Conversation]]) -> Parted:
    held_out = [c for split in HELD_OUT for c in splits[split]]
    found = {split: refused(splits[split], held_out) for split in LEARNED}
    ids = {split: {c.id for c in found.get(split, ())} for split in splits}
    return Parted({split: [c for c in splits[split] if c.id not in ids[split]] for split in splits}, found)


def refused(learned: Iterable[Conversation], held_out: Iterable[Conversation]) -> list[Conversation]:
    """Of those that are to be learned from, in their order."""
    asked = {normalised(c) for c in held_out}
    return [c for c in learned if normalised(c) in asked]


def normalised(conversation: Conversation) -> str:
    """Words of the customer's messages in small letters, without punctuation, every number as 0.

    What an agent says is left out: it is often one greeting for thousands of conversations, and the category depends
    on the customer. Numbers are made equal, because a template with another order number is still the same text.
    """
    return "\n".join(_words(text) or " ".join(text.split()) for text in conversation.said)


def _words(text: str) -> str:
    words = re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())
    return re.sub(r"\d+", "0", " ".join(words))
