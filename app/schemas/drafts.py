"""What is wrong with a draft, and the content that publishing it would freeze."""

import re
from typing import Any, NamedTuple

from app.errors import Problem
from evaluation.contract.schema import (
    MAX_CATEGORIES,
    MAX_KEY_CHARS,
    MAX_PROBLEMS,
    Category,
    CategorySchema,
    SchemaError,
    parse_schema,
)

MAX_CONDITIONS = 50  # of one kind, of one category
MAX_CONDITION_CHARS = 500
MAX_SCHEMA_CHARS = 200_000  # far beyond what any prompt holds
MAX_FIELDS = 20  # of an entry: more than there are, and few enough to tell of each that nobody reads
_MAX_CHARS = 300
_KNOWN = CategorySchema.model_fields.keys() | Category.model_fields.keys()
_SENTENCE = re.compile(r"(category .+?, [\w.]+|[\w.]+): (.+)", re.DOTALL)


class Checked(NamedTuple):
    """schema: None where there are problems."""

    schema: CategorySchema | None
    problems: list[Problem]


def check(draft: dict[str, Any], name: str) -> Checked:
    """name: of the schema; the draft need not repeat it."""
    fitting, problems = _fitting(draft)
    try:
        schema = parse_schema({"name": name} | fitting)
    except SchemaError as error:
        problems += [_split(sentence) for sentence in error.problems]
    else:
        problems += _too_long(schema)
        if not problems:
            return Checked(schema, [])
    return Checked(None, problems[:MAX_PROBLEMS])


class _Fitting(NamedTuple):
    """draft: no list or object in it has more than a schema may have. problems: those that had."""

    draft: dict[str, Any]
    problems: list[Problem]


def _fitting(draft: dict[str, Any]) -> _Fitting:
    """What is too much is not looked at: a hostile draft has as many problems as it has characters."""
    problems: list[Problem] = []
    fields = _few_fields(draft, "draft", "none_of_these, question and categories", problems)
    categories = fields.get("categories")
    if isinstance(categories, list):
        if len(categories) > MAX_CATEGORIES:
            message = f"there are {len(categories)}, and a schema has 1 to {MAX_CATEGORIES}"
            problems.append(Problem("categories", message))
        few = list(enumerate(categories[:MAX_CATEGORIES], start=1))
        fields = fields | {"categories": [_fitting_category(number, one, problems) for number, one in few]}
    return _Fitting(fields, problems)


def _fitting_category(number: int, category: Any, problems: list[Problem]) -> Any:
    if not isinstance(category, dict):
        return category
    key = category.get("key")
    where = f"category {key[:MAX_KEY_CHARS] if isinstance(key, str) and key else f'number {number}'!r}"
    fields = _few_fields(category, where, "key, name, definition, includes and excludes", problems)
    for field in ("includes", "excludes"):
        texts = fields.get(field)
        if isinstance(texts, list) and len(texts) > MAX_CONDITIONS:
            message = f"has {len(texts)} conditions, and {MAX_CONDITIONS} are the most"
            problems.append(Problem(f"{where}, {field}", message))
            fields = fields | {field: texts[:MAX_CONDITIONS]}
    return fields


def _few_fields(given: dict[str, Any], where: str, known: str, problems: list[Problem]) -> dict[str, Any]:
    if len(given) <= MAX_FIELDS:
        return given
    problems.append(Problem(where, f"has {len(given)} fields; {known} are what there is"))
    return {name: value for name, value in given.items() if name in _KNOWN}


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
