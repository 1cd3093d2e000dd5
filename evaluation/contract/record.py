"""Conversations with labels: what one is, and what the rows of any file must say to be one.

How rows are found in the files that people have is `evaluation.formats`; what we write ourselves is JSONL, read here.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Annotated, Any, Final, NamedTuple

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from evaluation.contract import strict_json
from evaluation.contract.schema import (
    MAX_CONDITION_CHARS,
    MAX_KEY_CHARS,
    NONE_WORD,
    CategorySchema,
    is_none_word,
)
from evaluation.contract.strict_json import NotJson
from evaluation.contract.text import blank, folded, unmistakable

MAX_FILE_BYTES = 1 << 30  # of a file of conversations, as it comes and unpacked
MAX_LINE_BYTES = 1 << 20
MAX_MESSAGES = 500
MAX_SHOWN = 60  # characters of a value that a reason repeats
_PLAIN: Final = {"missing": "is missing", "too_short": "is empty", "extra_forbidden": "is not known"}


# What may be known of a conversation beside what is said. No model reads it, and no file of a run holds it.
Language = Annotated[str, Field(min_length=1, max_length=35, pattern=r"^[A-Za-z0-9]+(?:[-_][A-Za-z0-9]+)*$")]
Channel = Annotated[str, Field(min_length=1, max_length=64)]
Reference = Annotated[str, Field(min_length=1, max_length=256)]
METADATA_NAME: Final = r"^[\w .:-]{1,64}$"
MetadataKey = Annotated[str, Field(pattern=METADATA_NAME)]
MetadataText = Annotated[str, Field(max_length=1000)]
# A database's JSON holds no number that is larger.
MetadataNumber = (
    Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] | Annotated[float, Field(ge=-1e300, le=1e300)]
)
Metadata = Annotated[dict[MetadataKey, bool | MetadataNumber | MetadataText], Field(max_length=32)]


_LONGEST_WORD: Final = (
    32  # longer than any name below, so that a megabyte is not folded to see that it is none
)


def _word(value: object) -> str:
    return folded(value) if isinstance(value, str) and len(value) <= _LONGEST_WORD else ""


class Role(StrEnum):
    """`user` and `assistant`, as chat APIs say, are read as customer and agent."""

    customer = "customer"
    agent = "agent"
    system = "system"

    @classmethod
    def _missing_(cls, value: object) -> "Role | None":
        written = _word(value)
        return cls.__members__.get({"user": "customer", "assistant": "agent"}.get(written, written))


class Split(StrEnum):
    train = "train"
    validation = "validation"
    calibration = "calibration"
    test = "test"

    @classmethod
    def _missing_(cls, value: object) -> "Split | None":
        return cls.__members__.get(_word(value))


class Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    role: Role
    text: str = Field(max_length=100_000)


class Conversation(BaseModel):
    """`category` None means none of these; whether there is a label at all is `labelled`.

    criterion: the include or exclude of the schema, word for word, that decided the label, where that is known.
    time: of its beginning. customer_reference: what its sender calls the customer. conversation_reference: what the
    sender calls the conversation itself, where `id` is another.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str = Field(min_length=1, max_length=256)
    messages: tuple[Message, ...] = Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)
    category: str | None = None
    criterion: str | None = Field(None, max_length=MAX_CONDITION_CHARS)
    split: Split | None = None
    language: Language | None = Field(None, exclude=True)
    channel: Channel | None = Field(None, exclude=True)
    time: AwareDatetime | None = Field(None, exclude=True)
    customer_reference: Reference | None = Field(None, exclude=True)
    conversation_reference: Reference | None = Field(None, exclude=True)
    metadata: Metadata | None = Field(None, exclude=True)

    @model_validator(mode="after")
    def _has_a_customer(self) -> "Conversation":
        if not self.said:
            raise ValueError(
                "no customer message with text; a conversation is classified by what its customer says"
            )
        if blank(self.id):
            raise ValueError("the id is empty; nothing of it can be seen")
        if any("\x00" in m.text for m in self.messages):
            raise ValueError("a message contains a NUL byte")
        return self

    @property
    def labelled(self) -> bool:
        return "category" in self.model_fields_set

    @property
    def said(self) -> tuple[str, ...]:
        """By the customer, but for messages of which nothing is seen."""
        return tuple(m.text for m in self.messages if m.role is Role.customer and not blank(m.text))

    @property
    def as_of_last_customer_message(self) -> tuple[Message, ...]:
        last = max(i for i, message in enumerate(self.messages) if message.role is Role.customer)
        return self.messages[: last + 1]


# By their names, what each may be.
ATTRIBUTES: Final[dict[str, TypeAdapter[Any]]] = {
    "language": TypeAdapter(Language),
    "channel": TypeAdapter(Channel),
    "time": TypeAdapter(AwareDatetime),
    "customer_reference": TypeAdapter(Reference),
    "metadata": TypeAdapter(Metadata),
}


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
    good: list[Conversation] = []
    rejects: list[Reject] = []
    for one in conversations(jsonl_rows(content.split(b"\n")), schema):
        if isinstance(one, Reject):
            rejects.append(one)
        else:
            good.append(one)
    return Parsed(good, sorted(rejects))


def jsonl_rows(lines: Iterable[bytes]) -> Iterator[Row | Reject]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield json_row(number, line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except UnicodeDecodeError as error:
                yield Reject(number, f"not UTF-8 (byte {error.start} of the line); save the file as UTF-8")


def json_row(line: int, text: str) -> Row | Reject:
    """text: of one JSON value."""
    if len(text) > MAX_LINE_BYTES:
        return Reject(line, f"is longer than {MAX_LINE_BYTES} characters")
    try:
        return Row(line, strict_json.parse(text, line))
    except NotJson as error:
        return Reject(line, str(error))


def conversations(
    rows: Iterable[Row | Reject], schema: CategorySchema | None
) -> Iterator[Conversation | Reject]:
    """Rows without an id get the hash of their text as one, and their number among those that say the same: a row that
    comes in elsewhere changes no other's.
    """
    line_of: dict[str, int] = {}
    alike: Counter[str] = Counter()
    for row in rows:
        if isinstance(row, Reject):
            yield row
            continue
        try:
            conversation = _conversation(row, schema, alike)
        except ValidationError as error:
            yield Reject(row.line, first_problem(error))
            continue
        except ValueError as error:
            yield Reject(row.line, str(error))
            continue
        if conversation.id in line_of:
            reason = f"id {conversation.id!r} was already used on line {line_of[conversation.id]}"
            yield Reject(row.line, reason)
        else:
            line_of[conversation.id] = row.line
            yield conversation


def _conversation(row: Row, schema: CategorySchema | None, alike: Counter[str]) -> Conversation:
    """Raises: ValueError, ValidationError."""
    if not isinstance(row.raw, dict):
        raise ValueError(
            "a line must hold one JSON object, which is a dictionary of `id`, `messages` and `category`"
        )
    raw = dict(row.raw)
    if "category" in raw:
        raw["category"] = _category(raw["category"], schema)
    if raw.get("id") is not None:
        return Conversation.model_validate(raw)
    made = Conversation.model_validate(raw | {"id": "none yet"})
    digest = hashlib.sha256("\n".join(f"{m.role}: {m.text}" for m in made.messages).encode()).hexdigest()
    alike[digest] += 1
    return made.model_copy(update={"id": f"text-{digest[:16]}-{alike[digest]}"})


def _category(written: Any, schema: CategorySchema | None) -> Any:
    """As the schema writes it; None: none of these. Raises: ValueError where the schema does not have it."""
    if isinstance(written, str) and len(written) > MAX_KEY_CHARS:
        raise ValueError(f"category has over {MAX_KEY_CHARS} characters")
    if isinstance(written, str) and blank(written):
        raise ValueError(f"category is empty; leave it out, or say `{NONE_WORD}` for none of these")
    if written is None or (isinstance(written, str) and is_none_word(written)):
        if schema is not None and not schema.none_of_these:
            raise ValueError(unknown_label(None, schema))
        return None
    if schema is None or not isinstance(written, str):
        return written
    key = schema.key_of(written)
    if key is None:
        raise ValueError(unknown_label(written, schema))
    return key


def first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    reason = _PLAIN.get(first["type"], first["msg"].removeprefix("Value error, "))
    if first["type"] == "string_too_long":
        reason = f"has {len(first['input'])} characters, and {first['ctx']['max_length']} are the most"
    return f"{where}: {reason}" if where else reason


def unknown_label(category: str | None, schema: CategorySchema) -> str:
    if category is None:
        return (
            f"category null or `{NONE_WORD}` means none of these, which the schema does not allow "
            "(none_of_these: true would)"
        )
    keys = ", ".join(schema.keys[:8]) + (" …" if len(schema.keys) > 8 else "")
    shown = category if len(category) <= MAX_SHOWN else f"{category[:MAX_SHOWN]}…"
    return f"category {unmistakable(shown)!r} is not in the schema; it has {keys}"
