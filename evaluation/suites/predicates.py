"""Checkable facts about a conversation, with definitions in several wordings.

A new criterion whose right answers are known by construction needs no label and no judge: whether a customer gives an
e-mail address can be seen. Only what the customer says counts, up to the last message that a model reads.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from evaluation.contract.record import Conversation, Role

_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)"
)
_DAY = r"\d{1,2}(?:st|nd|rd|th)?"
_WORD = re.compile(r"[a-z']+")
_LEAST_PHRASE_LETTERS = 7


class Predicate(NamedTuple):
    """wordings, negations: ends of a sentence that begins with `the customer`."""

    name: str
    holds: Callable[[Conversation], bool]
    wordings: tuple[str, ...]
    negations: tuple[str, ...]


def _said(pattern: str, flags: int = re.IGNORECASE) -> Callable[[Conversation], bool]:
    compiled = re.compile(pattern, flags)
    return lambda conversation: any(compiled.search(text) for text in conversation.said)


def _many_messages(conversation: Conversation) -> bool:
    return len(conversation.said) >= 3


def _agent_began(conversation: Conversation) -> bool:
    return conversation.messages[0].role is Role.agent


def _long(conversation: Conversation) -> bool:
    return len(" ".join(conversation.said).split()) > 25


LIBRARY = (
    Predicate(
        "amount",
        _said(r"[$€£¥]\s?\d|\b\d[\d.,]*\s?(?:dollars?|bucks|euros?|pounds?|usd|eur|gbp|cents?)\b"),
        ("mentions an amount of money", "names a sum of money", "says how much money something is"),
        ("mentions no amount of money", "names no sum of money", "does not say an amount of money"),
    ),
    Predicate(
        "date",
        _said(
            rf"\b{_MONTH}\.? {_DAY}\b|\b{_DAY} (?:of )?{_MONTH}\b|\b\d{{4}}-\d{{2}}-\d{{2}}\b"
            r"|\b\d{1,2}[./]\d{1,2}[./](?:\d{4}|\d{2})\b"
        ),
        ("gives a calendar date", "names a day of a month", "mentions a date such as 3 May"),
        ("gives no calendar date", "names no day of a month", "mentions no date such as 3 May"),
    ),
    Predicate(
        "order_number",
        _said(r"#\s?\d{3,}|\b[A-Z]{1,4}-?\d{4,}\b|\b\d{5,}\b"),
        ("gives an order or reference number", "states a long number", "quotes a reference number"),
        ("gives no order or reference number", "states no long number", "quotes no reference number"),
    ),
    Predicate(
        "email",
        _said(r"[\w.+-]+@[\w-]+\.\w+"),
        ("gives an e-mail address", "writes down an e-mail address"),
        ("gives no e-mail address", "writes down no e-mail address"),
    ),
    Predicate(
        "question",
        lambda conversation: "?" in " ".join(conversation.said),
        ("asks a question with a question mark", "writes a question mark"),
        ("writes no question mark", "asks nothing with a question mark"),
    ),
    Predicate(
        "number",
        _said(r"\d"),
        ("writes a number in digits", "uses digits"),
        ("writes no number in digits", "uses no digits"),
    ),
    Predicate(
        "time_of_day",
        _said(r"\b\d{1,2}(?::\d{2})?\s?[ap]\.?m\b|\b\d{1,2}:\d{2}\b|\bo'?clock\b"),
        ("names a time of day", "says an hour of the day, such as 5 pm"),
        ("names no time of day", "says no hour of the day, such as 5 pm"),
    ),
    Predicate(
        "please",
        _said(r"\bplease\b"),
        ("says please", "uses the word please"),
        ("does not say please", "does not use the word please"),
    ),
    Predicate(
        "thanks",
        _said(r"\bthank(?:s| you)\b"),
        ("thanks somebody", "says thanks or thank you"),
        ("thanks nobody", "does not say thanks or thank you"),
    ),
    Predicate(
        "several_messages",
        _many_messages,
        ("writes three messages or more", "has sent at least three messages"),
        ("writes one or two messages", "has sent fewer than three messages"),
    ),
    Predicate(
        "agent_began",
        _agent_began,
        ("was written to first by the agent", "answers an agent who spoke first"),
        ("spoke first", "began the conversation"),
    ),
    Predicate(
        "long",
        _long,
        ("writes more than twenty-five words", "uses more than 25 words in all"),
        ("writes at most twenty-five words", "uses no more than 25 words in all"),
    ),
)


def phrase(words: str) -> Predicate:
    return Predicate(
        f"phrase {words!r}",
        _said(rf"(?<![\w']){re.escape(words)}(?![\w'])"),
        (f"uses the words '{words}'", f"writes '{words}'"),  # a prompt shows conditions in double quotes
        (f"does not use the words '{words}'", f"does not write '{words}'"),
    )


def phrases(conversations: Sequence[Conversation], lowest: float, highest: float) -> list[Predicate]:
    """Of pairs of words that so large a share of the conversations contains, the commonest first."""
    seen = Counter(pair for conversation in conversations for pair in _pairs(conversation))
    least, most = lowest * len(conversations), highest * len(conversations)
    found = [(-count, pair) for pair, count in seen.items() if least <= count <= most]
    return [phrase(pair) for _, pair in sorted(found)]


def _pairs(conversation: Conversation) -> set[str]:
    """Of words next to each other with one space between them."""
    found = set[str]()
    for text in map(str.lower, conversation.said):
        pairs = (f"{first} {second}" for first, second in pairwise(_WORD.findall(text)))
        found.update(pair for pair in pairs if len(pair) > _LEAST_PHRASE_LETTERS and pair in text)
    return found


def share(predicate: Predicate, conversations: Iterable[Conversation]) -> float:
    met = [predicate.holds(conversation) for conversation in conversations]
    return sum(met) / len(met) if met else 0.0
