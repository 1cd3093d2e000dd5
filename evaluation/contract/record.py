"""Conversations with labels, as tenants upload them (JSONL or CSV)."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from evaluation.contract.schema import MAX_CONDITION_CHARS, CategorySchema

MAX_LINE_BYTES = 1 << 20
MAX_MESSAGES = 500
MAX_SHOWN = 60  # characters of a value that a reason repeats


class Role(StrEnum):
    customer = "customer"
    agent = "agent"
    system = "system"


class Split(StrEnum):
    train = "train"
    validation = "validation"
    calibration = "calibration"
    test = "test"


class Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    role: Role
    text: str = Field(max_length=100_000)


class Conversation(BaseModel):
    """`category` None means none of these; whether there is a label at all is `labelled`.

    criterion: the include or exclude of the schema, word for word, that decided the label, where that is known.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str = Field(min_length=1, max_length=256)
    messages: tuple[Message, ...] = Field(min_length=1, max_length=MAX_MESSAGES)
    category: str | None = None
    criterion: str | None = Field(None, max_length=MAX_CONDITION_CHARS)
    split: Split | None = None

    @model_validator(mode="after")
    def _has_a_customer(self) -> "Conversation":
        if not self.said:
            raise ValueError(
                "no customer message with text; a conversation is classified by what its customer says"
            )
        if any("\x00" in m.text for m in self.messages):
            raise ValueError("a message contains a NUL byte")
        return self

    @property
    def labelled(self) -> bool:
        return "category" in self.model_fields_set

    @property
    def said(self) -> tuple[str, ...]:
        """By the customer, but for empty messages."""
        return tuple(m.text for m in self.messages if m.role is Role.customer and m.text.strip())

    @property
    def as_of_last_customer_message(self) -> tuple[Message, ...]:
        last = max(i for i, message in enumerate(self.messages) if message.role is Role.customer)
        return self.messages[: last + 1]


class Row(NamedTuple):
    """raw: what a line, or the lines of one conversation, said; not checked yet."""

    line: int
    raw: Any


class Reject(NamedTuple):
    line: int
    reason: str


class Parsed(NamedTuple):
    conversations: list[Conversation]
    rejects: list[Reject]


def conversation_from_text(text: str) -> Conversation:
    return Conversation(id="text", messages=(Message(role=Role.customer, text=text),))


def parse_jsonl(content: bytes, schema: CategorySchema | None = None) -> Parsed:
    """Good rows and, with line numbers, the reasons why the others are not. Labels are checked if a schema is given."""
    return _parsed(conversations(jsonl_rows(content.split(b"\n")), schema))


def parse_csv(content: bytes, schema: CategorySchema | None = None) -> Parsed:
    """Columns `id, role, text, category` (a row per message) or `text, category` (a row per conversation).

    Both may have `criterion` and `split` as well.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        return Parsed([], [Reject(line, "not UTF-8; save the file as UTF-8")])
    return _parsed(conversations(csv_rows(io.StringIO(text, newline="")), schema))


def jsonl_rows(lines: Iterable[bytes]) -> Iterator[Row | Reject]:
    """Of a line that is too long it is enough to hand in more than MAX_LINE_BYTES."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if len(line) > MAX_LINE_BYTES:
            yield Reject(number, f"the line is longer than {MAX_LINE_BYTES} bytes")
            continue
        try:
            yield Row(number, json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8")))
        except UnicodeDecodeError as error:
            yield Reject(number, f"not UTF-8 (byte {error.start} of the line); save the file as UTF-8")
        except json.JSONDecodeError as error:
            yield Reject(number, f"not JSON: {error.msg} at column {error.colno}")
        except RecursionError:
            yield Reject(number, "JSON is nested too deeply")
        except ValueError:  # Python's own limit on the digits of a number
            yield Reject(number, "a number has too many digits")


def csv_rows(lines: Iterable[str]) -> Iterator[Row | Reject]:
    """The messages of one conversation may lie apart, so nothing comes before everything has been read."""
    reader = csv.DictReader(lines)
    grouped: dict[str, Row] = {}
    try:
        columns = set(reader.fieldnames or ())
        if "text" not in columns:
            yield Reject(1, "no column `text`; the first line must name the columns")
            return
        for row in reader:
            identity = row.get("id") or f"row-{reader.line_num}"
            entry = grouped.setdefault(identity, Row(reader.line_num, {"id": identity, "messages": []}))
            entry.raw["messages"].append({"role": row.get("role") or "customer", "text": row["text"] or ""})
            if "category" in columns and row["category"] is not None:
                entry.raw["category"] = row["category"] or None
            for column in ("criterion", "split"):
                if row.get(column):
                    entry.raw[column] = row[column]
    except csv.Error as error:
        # What was read so far may be halves of conversations, and after an open quotation mark nothing is certain.
        yield Reject(reader.line_num, f"not CSV: {error}; nothing of the file was used")
        return
    yield from grouped.values()


def conversations(
    rows: Iterable[Row | Reject], schema: CategorySchema | None
) -> Iterator[Conversation | Reject]:
    line_of: dict[str, int] = {}
    for row in rows:
        if isinstance(row, Reject):
            yield row
            continue
        try:
            conversation = Conversation.model_validate(row.raw)
        except ValidationError as error:
            yield Reject(row.line, first_problem(error))
            continue
        if conversation.id in line_of:
            reason = f"id {conversation.id!r} was already used on line {line_of[conversation.id]}"
            yield Reject(row.line, reason)
        elif schema and conversation.labelled and conversation.category not in schema.answers:
            yield Reject(row.line, unknown_label(conversation.category, schema))
        else:
            line_of[conversation.id] = row.line
            yield conversation


def _parsed(read: Iterable[Conversation | Reject]) -> Parsed:
    good: list[Conversation] = []
    rejects: list[Reject] = []
    for one in read:
        if isinstance(one, Reject):
            rejects.append(one)
        else:
            good.append(one)
    return Parsed(good, sorted(rejects))


def first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    reason = first["msg"].removeprefix("Value error, ")
    return f"{where}: {reason}" if where else reason


def unknown_label(category: str | None, schema: CategorySchema) -> str:
    if category is None:
        return (
            "category null means none of these, which the schema does not allow (none_of_these: true would)"
        )
    keys = ", ".join(schema.keys[:8]) + (" …" if len(schema.keys) > 8 else "")
    shown = category if len(category) <= MAX_SHOWN else f"{category[:MAX_SHOWN]}…"
    return f"category {shown!r} is not in the schema; it has {keys}"
