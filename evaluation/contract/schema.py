"""A category schema: what a tenant calls its categories and how it defines them."""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

MAX_CATEGORIES = 100
MAX_KEY_CHARS = 128
MAX_CONDITION_CHARS = 2000
_PLAIN = {  # Pydantic's own words are for programmers
    "missing": "is missing",
    "string_too_short": "is empty; write one sentence",
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
        problems = []
        for field in ("key", "name"):
            seen: set[str] = set()
            for category in self.categories:
                value = getattr(category, field)
                if value in seen:
                    problems.append(f"category {category.key!r}, {field}: {value!r} is used twice")
                seen.add(value)
        for category in self.categories:
            for field in ("includes", "excludes"):
                if any(not condition.strip() for condition in getattr(category, field)):
                    problems.append(f"category {category.key!r}, {field}: a condition is empty")
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

    def category(self, key: str) -> Category:
        return next(category for category in self.categories if category.key == key)

    @property
    def sha256(self) -> str:
        stated = self.model_dump(exclude_none=True)
        canonical = json.dumps(stated, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


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
            raw = json.loads(raw)
        except UnicodeDecodeError as error:
            raise SchemaError([f"the schema is not UTF-8 text (byte {error.start})"]) from None
        except json.JSONDecodeError as error:
            raise SchemaError([f"the schema is not JSON: line {error.lineno}: {error.msg}"]) from None
    if not isinstance(raw, Mapping):
        raise SchemaError(["the schema must be a JSON object with a list `categories`"])
    try:
        return CategorySchema.model_validate(raw)
    except ValidationError as error:
        # Where a category is wrong, Pydantic adds that the list came out too short.
        problems = [p for p in error.errors() if not (p["type"] == "too_short" and raw["categories"])]
        raise SchemaError([text for problem in problems for text in _sentences(raw, dict(problem))]) from None


def _sentences(raw: Mapping[str, Any], problem: dict[str, Any]) -> list[str]:
    found = problem.get("ctx", {}).get("error")  # of a validator above, which may have found several
    return found.problems if isinstance(found, SchemaError) else [_sentence(raw, problem)]


def _sentence(raw: Mapping[str, Any], problem: dict[str, Any]) -> str:
    location = problem["loc"]
    message: str = _PLAIN.get(problem["type"], problem["msg"].removeprefix("Value error, "))
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
