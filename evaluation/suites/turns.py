"""Conversations replayed turn by turn: asked again after each customer message, as traffic asks while they go on.

Only the whole conversation has a label. What was right earlier, before the customer came to it, is not known.
"""

import hashlib
import json
import random
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from evaluation.contract.record import Conversation, Role
from evaluation.contract.schema import CategorySchema
from evaluation.inference.runner import Question, Questions


class Prefix(NamedTuple):
    """seen: customer messages with text in it, of as many in all."""

    conversation: Conversation
    seen: int
    of: int

    @property
    def left(self) -> int:
        return self.of - self.seen


class TurnsSuite(NamedTuple):
    """items: by conversation, shortest prefix first, the whole conversation last."""

    schema: CategorySchema
    items: tuple[Prefix, ...]
    seed: int

    @property
    def sha256(self) -> str:
        """Of everything that a prediction or a score depends on."""
        used = {"id", "messages", "category"}
        items = [[p.conversation.model_dump(mode="json", include=used), p.seen, p.of] for p in self.items]
        content = [self.schema.sha256, items, self.seed]
        canonical = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def questions(self) -> Questions:
        each = tuple(Question(self.schema, item.conversation) for item in self.items)
        return Questions(self.sha256, each, "turn by turn")


def build(
    schema: CategorySchema,
    conversations: Iterable[Conversation],
    *,
    seed: int = 0,
    max_items: int = 240,
    longest: int = 8,
) -> TurnsSuite:
    """A plain random sample. Empty where no labelled conversation has two customer messages.

    max_items: requests in all. longest: prefixes of one conversation; of more they are spread evenly.
    """
    rng = random.Random(seed)
    labelled = (c for c in conversations if c.labelled and c.category in schema.answers)
    usable = sorted((c for c in labelled if len(c.said) > 1), key=lambda c: c.id)
    most = max(2, min(longest, max_items))  # of one alone nothing can be said
    items: list[Prefix] = []
    for conversation in rng.sample(usable, len(usable)):
        replayed = _replayed(conversation, most)
        if len(items) + len(replayed) > max_items:
            break
        items += replayed
    return TurnsSuite(schema, tuple(items), seed)


def _replayed(conversation: Conversation, longest: int) -> list[Prefix]:
    whole = list(_prefixes(conversation))
    count = min(longest, len(whole))
    return [whole[round(i * (len(whole) - 1) / (count - 1))] for i in range(count)]


def _prefixes(conversation: Conversation) -> Iterator[Prefix]:
    ends = [
        end
        for end, message in enumerate(conversation.messages, start=1)
        if message.role is Role.customer and message.text.strip()
    ]
    for seen, end in enumerate(ends, start=1):
        shown = conversation.messages[:end] if seen < len(ends) else conversation.messages
        yield Prefix(conversation.model_copy(update={"messages": shown}), seen, len(ends))
