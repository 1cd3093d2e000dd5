"""What is wrong with a draft, and the content that publishing it would freeze."""

import re
from typing import Any, NamedTuple

from app.errors import Problem
from evaluation.contract.schema import CategorySchema, SchemaError, parse_schema

MAX_CONDITIONS = 50  # of one kind, of one category
MAX_CONDITION_CHARS = 500
MAX_SCHEMA_CHARS = 200_000  # far beyond what any prompt holds
MAX_PROBLEMS = 200  # a hostile draft has as many as it has characters
_MAX_CHARS = 300
_SENTENCE = re.compile(r"(category .+?, [\w.]+|[\w.]+): (.+)", re.DOTALL)


class Checked(NamedTuple):
    """schema: None where there are problems."""

    schema: CategorySchema | None
    problems: list[Problem]


def check(draft: dict[str, Any], name: str) -> Checked:
    """name: of the schema; the draft need not repeat it."""
    try:
        schema = parse_schema({"name": name} | draft)
    except SchemaError as error:
        return Checked(None, [_split(sentence) for sentence in error.problems[:MAX_PROBLEMS]])
    problems = _too_much(schema)[:MAX_PROBLEMS]
    return Checked(None if problems else schema, problems)


def _split(sentence: str) -> Problem:
    found = _SENTENCE.fullmatch(sentence)
    where, message = (found[1], found[2]) if found else ("draft", sentence)
    return Problem(where[:_MAX_CHARS], message[:_MAX_CHARS])


def _too_much(schema: CategorySchema) -> list[Problem]:
    problems = []
    for category in schema.categories:
        for field, texts in (("includes", category.includes), ("excludes", category.excludes)):
            where = f"category {category.key!r}, {field}"
            if len(texts) > MAX_CONDITIONS:
                problems.append(
                    Problem(where, f"has {len(texts)} conditions, and {MAX_CONDITIONS} are the most")
                )
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
