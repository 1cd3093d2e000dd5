"""Vocabulary of the synthetic support world: what customers talk about, what they want and how they say it.

The words are in `words/lexicon.json`. Every entry is plain text starting in lower case; '{o}' in a deed stands for a
thing such as 'my parcel'.
"""

import json
from importlib.resources import files
from typing import Any, NamedTuple


class Thing(NamedTuple):
    """Something a customer has: names in a category definition, and names customers use."""

    defined: tuple[str, ...]
    said: tuple[str, ...]


class Deed(NamedTuple):
    """Something a customer wants done: verb, wordings before 'their invoice', sentences around '{o}'."""

    gist: str
    defined: tuple[str, ...]
    said: tuple[str, ...]


class Circumstance(NamedTuple):
    """Something true of the customer: name, wordings after 'the customer', sentences customers say."""

    gist: str
    defined: tuple[str, ...]
    said: tuple[str, ...]


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


_WORDS: dict[str, Any] = json.loads((files("training.starter") / "words" / "lexicon.json").read_bytes())


def _entries(section: str) -> dict[str, dict[str, Any]]:
    return {
        name: {field: _frozen(value) for field, value in entry.items()}
        for name, entry in _WORDS[section].items()
    }


def _lines(section: str) -> tuple[str, ...]:
    return tuple(_WORDS[section])


OBJECTS = {name: Thing(**entry) for name, entry in _entries("objects").items()}
ACTIONS = {name: Deed(**entry) for name, entry in _entries("actions").items()}
CIRCUMSTANCES = {name: Circumstance(**entry) for name, entry in _entries("circumstances").items()}
GREETINGS, CLOSINGS, SMALLTALK = _lines("greetings"), _lines("closings"), _lines("smalltalk")
AGENT_LINES, DONE_LINES, SWITCH_LINES = _lines("agent_lines"), _lines("done_lines"), _lines("switch_lines")
OPAQUE_NAMES, JARGON = _lines("opaque_names"), _lines("jargon")
