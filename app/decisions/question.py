"""What both wires ask: questions with named options about one state."""

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple

from pydantic import JsonValue, ValidationError

from app.errors import InvalidRequest, Problem
from app.schemas import drafts
from evaluation.contract.mode import ModeChoice
from evaluation.contract.record import (
    MAX_MESSAGES,
    Conversation,
    Role,
    conversation_from_text,
    first_problem,
)
from evaluation.contract.schema import MAX_CONDITION_CHARS, MAX_KEY_CHARS
from evaluation.contract.text import blank

MAX_QUESTIONS: Final = 400
MAX_OPTIONS: Final = 255
MAX_ORDERS: Final = 32
MAX_READS: Final = 1000  # prompts of a call; and questions times orders
MAX_NAME_CHARS: Final = 2 * MAX_KEY_CHARS + 64  # two keys, as of merged categories, and words between
_ONE_CONDITION: Final = drafts.MAX_CONDITION_CHARS + 20  # with a word before it
# Of an option: what a category may say, its definition and all includes and excludes.
MAX_DESCRIPTION_CHARS: Final = MAX_CONDITION_CHARS + 2 * drafts.MAX_CONDITIONS * _ONE_CONDITION
MAX_STATE_CHARS: Final = 100_000
YES: Final = "it is right"  # the words in which the base that ships has learned to read a question
NO: Final = "it is not right"


class QuestionKind(StrEnum):
    yes_or_no = "yes_or_no"  # the options are yes and no, in this order
    choice = "choice"  # one of several, whose order says nothing
    score = "score"  # levels from the lowest to the highest


class Option(NamedTuple):
    """value: what the answer calls it. name: as it is shown. definition: when it applies; None: its name says it."""

    value: str | bool
    name: str
    definition: str | None


class DecisionQuestion(NamedTuple):
    """where: what the caller calls this part of the body. text: what is asked; None: the options alone say it.

    options: empty where a schema's own are meant.
    """

    where: str
    kind: QuestionKind
    text: str | None
    options: tuple[Option, ...]


class DecisionCall(NamedTuple):
    """state_at: what the caller calls the state. mode: None: fast, and for a schema's own question the one that is
    deployed. orders: how many of the orders of a question's options are read and averaged."""

    model: str
    state_at: str
    state: Conversation
    questions: tuple[DecisionQuestion, ...]
    mode: ModeChoice | None
    orders: int


def yes_or_no(
    where: str, text: str | None, yes: str | None = None, no: str | None = None
) -> DecisionQuestion:
    """yes, no: when which is right, where that is said."""
    options = (Option(True, "yes", yes or YES), Option(False, "no", no or NO))
    return DecisionQuestion(where, QuestionKind.yes_or_no, text, options)


def option(where: str, value: str | bool, definition: JsonValue) -> Option:
    """Raises: InvalidRequest."""
    name = str(value).lower() if isinstance(value, bool) else value
    if blank(name) or len(name) > MAX_NAME_CHARS:
        raise invalid(where, f"an option has 1 to {MAX_NAME_CHARS} characters that can be seen")
    return Option(value, name, description(where, definition))


def instructions(where: str, value: JsonValue) -> str | None:
    """What is asked. None: nothing is said. Raises: InvalidRequest."""
    return _as_text(where, value, MAX_CONDITION_CHARS)


def description(where: str, value: JsonValue) -> str | None:
    """When an option applies. None: nothing is said. Raises: InvalidRequest."""
    return _as_text(where, value, MAX_DESCRIPTION_CHARS)


def state_of(where: str, value: JsonValue) -> Conversation:
    """Text, JSON, or a conversation: a list of messages (perhaps as `messages`) of which the last is a customer's.

    Raises: InvalidRequest.
    """
    if isinstance(value, str):
        return text_state(where, value)
    messages = value.get("messages") if isinstance(value, dict) and len(value) == 1 else value
    if isinstance(messages, list) and (turns := _turns(messages)) is not None:
        return conversation(where, turns)
    return text_state(where, as_json(value) if value else "")


def conversation(where: str, turns: Sequence[Mapping[str, Any]]) -> Conversation:
    """turns: of which the last is a customer's, so that none is left out. Raises: InvalidRequest."""
    _check_length(where, sum(len(turn["text"]) for turn in turns))
    if len(turns) > MAX_MESSAGES:
        raise invalid(where, f"has {len(turns)} messages, and {MAX_MESSAGES} are read; leave out older ones")
    try:
        return Conversation.model_validate({"id": "state", "messages": turns})
    except ValidationError as error:
        raise invalid(where, first_problem(error)) from None


def text_state(where: str, text: str) -> Conversation:
    """Raises: InvalidRequest."""
    if blank(text):
        raise invalid(where, "is empty; give what the questions are about")
    _check_length(where, len(text))
    return conversation_from_text(text)


def invalid(where: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"{where}: {message}", problems=[Problem(where, message)])


def as_json(value: JsonValue) -> str:
    return json.dumps(value, ensure_ascii=False)


def _as_text(where: str, value: JsonValue, most: int) -> str | None:
    """Text, or JSON that is shown as it is. Raises: InvalidRequest."""
    text = value if value is None or isinstance(value, str) else as_json(value)
    if text is not None and len(text) > most:
        raise invalid(where, f"has {len(text)} characters, and {most} are read; say it shorter")
    return None if text is None or blank(text) else text


def _check_length(where: str, chars: int) -> None:
    if chars > MAX_STATE_CHARS:
        raise invalid(where, f"has {chars} characters, and {MAX_STATE_CHARS} are taken; leave something out")


def _turns(messages: list[Any]) -> list[dict[str, Any]] | None:
    """None where it is no such list: it is JSON like any other then."""
    found = []
    for message in messages:
        if not isinstance(message, dict) or len(message) != 2 or not isinstance(message.get("role"), str):
            return None
        text = message.get("text", message.get("content"))
        if not isinstance(text, str) or Role._missing_(message["role"]) is None:
            return None
        found.append({"role": message["role"], "text": text})
    return (
        found if found and Role(found[-1]["role"]) is Role.customer and not blank(found[-1]["text"]) else None
    )
