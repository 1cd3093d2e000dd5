"""Conversations with labels, as tenants upload them (JSONL or CSV)."""

import csv
import io
import json
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from evaluation.contract.schema import CategorySchema

MAX_LINE_BYTES = 1 << 20
MAX_MESSAGES = 500


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
    """`category` None means none of these; whether there is a label at all is `labelled`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str = Field(min_length=1, max_length=256)
    messages: tuple[Message, ...] = Field(min_length=1, max_length=MAX_MESSAGES)
    category: str | None = None
    split: Split | None = None

    @model_validator(mode="after")
    def _has_a_customer(self) -> "Conversation":
        if not any(m.role is Role.customer and m.text.strip() for m in self.messages):
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
    def as_of_last_customer_message(self) -> tuple[Message, ...]:
        last = max(i for i, message in enumerate(self.messages) if message.role is Role.customer)
        return self.messages[: last + 1]


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
    rows: list[tuple[int, Any]] = []
    rejects = []
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        if len(line) > MAX_LINE_BYTES:
            rejects.append(Reject(number, f"the line is longer than {MAX_LINE_BYTES} bytes"))
            continue
        try:
            rows.append((number, json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))))
        except UnicodeDecodeError as error:
            rejects.append(
                Reject(number, f"not UTF-8 (byte {error.start} of the line); save the file as UTF-8")
            )
        except json.JSONDecodeError as error:
            rejects.append(Reject(number, f"not JSON: {error.msg} at column {error.colno}"))
        except RecursionError:
            rejects.append(Reject(number, "JSON is nested too deeply"))
    return _conversations(rows, rejects, schema)


def parse_csv(content: bytes, schema: CategorySchema | None = None) -> Parsed:
    """Columns `id, role, text, category` (a row per message) or `text, category` (a row per conversation)."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        return Parsed([], [Reject(line, "not UTF-8; save the file as UTF-8")])
    reader = csv.DictReader(io.StringIO(text, newline=""))
    columns = set(reader.fieldnames or ())
    if "text" not in columns:
        return Parsed([], [Reject(1, "no column `text`; the first line must name the columns")])
    grouped: dict[str, tuple[int, dict[str, Any]]] = {}
    for row in reader:
        identity = row.get("id") or f"row-{reader.line_num}"
        line, entry = grouped.setdefault(identity, (reader.line_num, {"id": identity, "messages": []}))
        entry["messages"].append({"role": row.get("role") or "customer", "text": row["text"] or ""})
        if "category" in columns and row["category"] is not None:
            entry["category"] = row["category"] or None
        if row.get("split"):
            entry["split"] = row["split"]
    return _conversations(list(grouped.values()), [], schema)


def _conversations(
    rows: Iterable[tuple[int, Any]], rejects: list[Reject], schema: CategorySchema | None
) -> Parsed:
    good: list[Conversation] = []
    line_of: dict[str, int] = {}
    for number, raw in rows:
        try:
            conversation = Conversation.model_validate(raw)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            reason = first["msg"].removeprefix("Value error, ")
            rejects.append(Reject(number, f"{where}: {reason}" if where else reason))
            continue
        if conversation.id in line_of:
            first_line = line_of[conversation.id]
            rejects.append(Reject(number, f"id {conversation.id!r} was already used on line {first_line}"))
        elif schema and conversation.labelled and conversation.category not in schema.answers:
            rejects.append(Reject(number, _unknown_label(conversation.category, schema)))
        else:
            line_of[conversation.id] = number
            good.append(conversation)
    return Parsed(good, sorted(rejects))


def _unknown_label(category: str | None, schema: CategorySchema) -> str:
    if category is None:
        return (
            "category null means none of these, which the schema does not allow (none_of_these: true would)"
        )
    keys = ", ".join(schema.keys[:8]) + (" …" if len(schema.keys) > 8 else "")
    return f"category {category!r} is not in the schema; it has {keys}"
