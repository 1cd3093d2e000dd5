"""What is wrong with a draft, and the content that publishing it would freeze."""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

from app.errors import Problem
from evaluation.contract.schema import (
    MAX_CATEGORIES,
    MAX_KEY_CHARS,
    MAX_PROBLEMS,
    CategorySchema,
    SchemaError,
    parse_schema,
)

MAX_CONDITIONS = 50  # of one kind, of one category
MAX_CONDITION_CHARS = 500
MAX_SCHEMA_CHARS = 200_000  # far beyond what any prompt holds
MAX_FIELDS = 20  # of an entry: more than there are, and few enough to tell of each that nobody reads
_MAX_CHARS = 300
_SENTENCE = re.compile(r"(category .+?, [\w.]+|[\w.]+): (.+)", re.DOTALL)


class Checked(NamedTuple):
    """schema: None where there are problems."""

    schema: CategorySchema | None
    problems: list[Problem]


def check(draft: dict[str, Any], name: str) -> Checked:
    """name: of the schema; the draft need not repeat it."""
    if oversized := list(islice(_oversized(draft), MAX_PROBLEMS)):
        return Checked(None, oversized)
    try:
        schema = parse_schema({"name": name} | draft)
    except SchemaError as error:
        return Checked(None, [_split(sentence) for sentence in error.problems[:MAX_PROBLEMS]])
    problems = _too_long(schema)[:MAX_PROBLEMS]
    return Checked(None if problems else schema, problems)


def _oversized(draft: dict[str, Any]) -> Iterator[Problem]:
    """Lists and objects with more in them than any schema has: what is in them is not looked at."""
    if len(draft) > MAX_FIELDS:
        yield Problem(
            "draft", f"has {len(draft)} fields; none_of_these, question and categories are what there is"
        )
    categories = draft.get("categories")
    if not isinstance(categories, list):
        return
    if len(categories) > MAX_CATEGORIES:
        yield Problem("categories", f"there are {len(categories)}, and a schema has 1 to {MAX_CATEGORIES}")
        return
    for number, category in enumerate(categories):
        if not isinstance(category, dict):
            continue
        key = category.get("key")
        where = (
            f"category {key[:MAX_KEY_CHARS]!r}"
            if isinstance(key, str) and key
            else f"category number {number + 1}"
        )
        if len(category) > MAX_FIELDS:
            yield Problem(
                where,
                f"has {len(category)} fields; key, name, definition, includes and excludes are what there is",
            )
        for field in ("includes", "excludes"):
            texts = category.get(field)
            if isinstance(texts, list) and len(texts) > MAX_CONDITIONS:
                message = f"has {len(texts)} conditions, and {MAX_CONDITIONS} are the most"
                yield Problem(f"{where}, {field}", message)


def _split(sentence: str) -> Problem:
    found = _SENTENCE.fullmatch(sentence)
    where, message = (found[1], found[2]) if found else ("draft", sentence)
    return Problem(where[:_MAX_CHARS], message[:_MAX_CHARS])


def _too_long(schema: CategorySchema) -> list[Problem]:
    problems = []
    for category in schema.categories:
        for field, texts in (("includes", category.includes), ("excludes", category.excludes)):
            where = f"category {category.key!r}, {field}"
            problems += [
                Problem(
                    f"{where}.{number}",
                    f"has {len(text)} characters, and {MAX_CONDITION_CHARS} are the most",
                )
                for number, text in enumerate(texts)
                if len(text) > MAX_CONDITION_CHARS
            ]
    chars = len(schema.model_dump_json())
    if chars > MAX_SCHEMA_CHARS:
        problems.append(Problem("draft", f"has {chars} characters, and {MAX_SCHEMA_CHARS} are the most"))
    return problems
