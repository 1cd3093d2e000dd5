"""A category schema: what a tenant calls its categories and how it defines them."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from evaluation.contract import strict_json
from evaluation.contract.strict_json import NotJson
from evaluation.contract.text import blank, folded, revealed

NONE_WORD = "(none)"  # none of these, in formats that have no null; no category's key may be it
MAX_CATEGORIES = 100
MAX_KEY_CHARS = 128
MAX_CONDITION_CHARS = 2000
MAX_PROBLEMS = 200  # that are told of; a hostile schema has as many as it has characters
_PLAIN = {  # Pydantic's own words are for programmers
    "missing": "is missing",
    "string_too_short": "is empty; write one sentence",
    "string_type": "must be a text in quotes",
    "tuple_type": "must be a list",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "model_type": "must be an object in braces",
    "string_pattern_mismatch": f"must be 1 to {MAX_KEY_CHARS} characters, none of them a space",
}


class SchemaError(ValueError):
    """A category schema that cannot be used; `problems` names category and field, one sentence each."""

    def __init__(self, problems: list[str]):
        super().__init__("; ".join(problems))
        self.problems = problems


OneCondition = Annotated[str, Field(max_length=MAX_CONDITION_CHARS)]


class Category(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    key: str = Field(pattern=rf"^[^\s\x00-\x1f]{{1,{MAX_KEY_CHARS}}}$")
    name: str = Field(min_length=1, max_length=200)
    definition: str = Field(min_length=1, max_length=MAX_CONDITION_CHARS)
    includes: tuple[OneCondition, ...] = ()
    excludes: tuple[OneCondition, ...] = ()

    @property
    def described(self) -> tuple[str, ...]:
        """What makes a conversation one of it: the definition first, then the includes."""
        return (self.definition, *self.includes)

    @property
    def clauses(self) -> tuple[str, ...]:
        """The same, and each part of a definition that semicolons divide: any of them may be what is meant."""
        parts = [part for part in map(str.strip, self.definition.split(";")) if part]
        return (*self.described, *parts) if len(parts) > 1 else self.described


class CategorySchema(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    name: str = "schema"
    question: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_CONDITION_CHARS,
        description="asked in place of the category of the request",
    )
    none_of_these: bool = False
    categories: tuple[Category, ...] = Field(min_length=1, max_length=MAX_CATEGORIES)

    @model_validator(mode="after")
    def _distinct_and_filled(self) -> "CategorySchema":
        problems = [*_twins(self.categories), *_empty(self.categories)]
        if problems:
            raise SchemaError(problems)
        return self

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(category.key for category in self.categories)

    @property
    def answers(self) -> tuple[str | None, ...]:
        """Every allowed answer in prompt order; None (none of these) comes last where it is allowed."""
        return (*self.keys, None) if self.none_of_these else self.keys

    def key_of(self, written: str) -> str | None:
        """The key that a label means: case, Unicode form and what is not seen do not matter. None: there is none."""
        if written in self.keys:
            return written
        return next((key for key in self.keys if folded(key) == folded(written)), None)

    def category(self, key: str) -> Category:
        return next(category for category in self.categories if category.key == key)

    @property
    def describes_texts(self) -> bool:
        """Whether they can be compared with a text: a schema that asks a question of its own has answers to it."""
        return self.question is None and len(self.categories) > 1

    @property
    def sha256(self) -> str:
        stated = self.model_dump(exclude_none=True)
        canonical = json.dumps(stated, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def is_none_word(written: str) -> bool:
    return folded(written) == NONE_WORD


def _empty(categories: Sequence[Category]) -> Iterator[str]:
    """What Pydantic takes for text, although nobody sees any."""
    for category in categories:
        for field in ("key", "name", "definition"):
            if blank(getattr(category, field)):
                yield f"category {revealed(category.key)!r}, {field}: is empty; nothing of it can be seen"
        for field in ("includes", "excludes"):
            if any(blank(condition) for condition in getattr(category, field)):
                yield f"category {category.key!r}, {field}: a condition is empty"
        if is_none_word(category.key):
            yield f"category {category.key!r}, key: {NONE_WORD} is the word for none of these; choose another"


def _twins(categories: Sequence[Category]) -> Iterator[str]:
    for field in ("key", "name"):
        seen: dict[str, str] = {}
        for category in categories:
            value: str = getattr(category, field)
            other = seen.get(folded(value))
            seen[folded(value)] = value
            if other == value:
                yield f"category {category.key!r}, {field}: {value!r} is used twice"
            elif other is not None:
                yield (
                    f"category {revealed(category.key)!r}, {field}: {revealed(value)!r} and {revealed(other)!r} are "
                    "one to a reader"
                )


class Condition(NamedTuple):
    """One sentence of a schema that can decide an answer."""

    key: str | None
    kind: str  # definition | include | exclude | none_of_these
    text: str


def conditions(schema: CategorySchema) -> list[Condition]:
    found = []
    for category in schema.categories:
        found.append(Condition(category.key, "definition", category.definition))
        found += [Condition(category.key, "include", text) for text in category.includes]
        found += [Condition(category.key, "exclude", text) for text in category.excludes]
    if schema.none_of_these:
        found.append(Condition(None, "none_of_these", "none of these"))
    return found


def parse_schema(raw: Mapping[str, Any] | bytes | str) -> CategorySchema:
    """Raises: SchemaError naming the category and field of every problem found."""
    if isinstance(raw, bytes | str):
        try:
            raw = strict_json.parse(strict_json.decoded(raw) if isinstance(raw, bytes) else raw)
        except NotJson as error:
            raise SchemaError([f"the schema cannot be read: {error}"]) from None
    for lost in strict_json.unusable(raw):
        raise SchemaError([f"{lost.where or 'the schema'} {lost.message}"])
    if not isinstance(raw, Mapping):
        raise SchemaError(["the schema must be a JSON object with a list `categories`"])
    try:
        return CategorySchema.model_validate(raw)
    except ValidationError as error:
        # Where a category is wrong, Pydantic adds that the list came out too short.
        errors = error.errors(include_url=False, include_input=False)
        problems = [p for p in errors if not (p["type"] == "too_short" and raw["categories"])][:MAX_PROBLEMS]
        raise SchemaError([text for problem in problems for text in _sentences(raw, dict(problem))]) from None


def _sentences(raw: Mapping[str, Any], problem: dict[str, Any]) -> list[str]:
    found = problem.get("ctx", {}).get("error")  # of a validator above, which may have found several
    return found.problems if isinstance(found, SchemaError) else [_sentence(raw, problem)]


def _sentence(raw: Mapping[str, Any], problem: dict[str, Any]) -> str:
    location = problem["loc"]
    message: str = _PLAIN.get(problem["type"], problem["msg"].removeprefix("Value error, "))
    if problem["type"] == "extra_forbidden":
        of = CategorySchema if len(location) == 1 else Category
        message = f"is not known; there are {', '.join(of.model_fields)}"
    if not location:
        return message
    if location[0] != "categories" or len(location) == 1:
        if problem["type"] in ("too_long", "too_short"):
            count = len(raw["categories"])
            return f"categories: there are {count}, and a schema has 1 to {MAX_CATEGORIES}"
        return f"{location[0]}: {message}"
    entry = raw["categories"][location[1]]
    key = entry.get("key") if isinstance(entry, Mapping) else None
    who = key if isinstance(key, str) and key else f"number {location[1] + 1}"
    if len(who) > MAX_KEY_CHARS:  # said in every sentence about the category, of which there may be thousands
        who = f"{who[:MAX_KEY_CHARS]}…"
    field = ".".join(str(part) for part in location[2:]) or "entry"
    return f"category {who!r}, {field}: {message}"
