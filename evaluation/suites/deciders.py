"""Which include of its category decided a conversation's label: said by the label, or seen where all can be checked."""

from collections.abc import Mapping
from typing import Final

from evaluation.contract.record import Conversation
from evaluation.contract.schema import CategorySchema
from evaluation.suites.predicates import LIBRARY, Predicate


def decider(schema: CategorySchema, conversation: Conversation, *, by_label: bool = False) -> str | None:
    """Word for word; None where it is not known. A label's `criterion` may also be another condition than an include.

    Without one every include must be checkable: one that is not could have decided just as well. Even then the
    definition alone may lead to the label too. It does not where the include is excluded, but where that goes to
    another category the answer may stay: by_label, which leaves such conversations out, is for those edits.
    """
    if conversation.criterion is not None:
        return conversation.criterion
    if by_label or conversation.category not in schema.keys:
        return None
    includes = schema.category(conversation.category).includes
    checks = [(text, _CHECKABLE.get(_bare(text))) for text in includes]
    if any(predicate is None for _, predicate in checks):
        return None
    met = [text for text, predicate in checks if predicate is not None and predicate.holds(conversation)]
    return met[0] if len(met) == 1 else None


def _bare(text: str) -> str:
    """What a wording and an include must share."""
    return text.strip().removesuffix(".").rstrip().casefold().removeprefix("the customer ").lstrip()


_CHECKABLE: Final[Mapping[str, Predicate]] = {_bare(text): one for one in LIBRARY for text in one.wordings}
