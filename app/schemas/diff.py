"""What differs between two versions of a schema, as data and as text that an editor can read.

Categories are matched by key. Where a key is gone and another came with the very same definition, includes and
excludes, the category was renamed, not replaced.
"""

from collections.abc import Iterable
from typing import NamedTuple

from evaluation.contract.schema import Category, CategorySchema


class TextChange(NamedTuple):
    old: str
    new: str


class Renamed(NamedTuple):
    key: TextChange
    name: TextChange


class Changed(NamedTuple):
    """Of a category that both versions have; key is the newer one. definition: None where it is the same."""

    key: str
    definition: TextChange | None
    includes_added: tuple[str, ...]
    includes_removed: tuple[str, ...]
    excludes_added: tuple[str, ...]
    excludes_removed: tuple[str, ...]


class Difference(NamedTuple):
    """name, none_of_these: None where they are the same. reordered: of the categories that both versions have."""

    name: TextChange | None
    none_of_these: bool | None
    added: list[Category]
    removed: list[Category]
    renamed: list[Renamed]
    changed: list[Changed]
    reordered: bool


def compare(old: CategorySchema, new: CategorySchema) -> Difference:
    pairs = _pairs(old, new)
    kept_old, kept_new = {was.key for was, _ in pairs}, {now.key for _, now in pairs}
    return Difference(
        name=_text(old.name, new.name),
        none_of_these=None if old.none_of_these == new.none_of_these else new.none_of_these,
        added=[category for category in new.categories if category.key not in kept_new],
        removed=[category for category in old.categories if category.key not in kept_old],
        renamed=[
            Renamed(TextChange(was.key, now.key), TextChange(was.name, now.name))
            for was, now in pairs
            if (was.key, was.name) != (now.key, now.name)
        ],
        changed=[change for was, now in pairs if (change := _change(was, now)) is not None],
        reordered=[now.key for _, now in pairs] != [key for key in new.keys if key in kept_new],
    )


def _pairs(old: CategorySchema, new: CategorySchema) -> list[tuple[Category, Category]]:
    """In the old order."""
    by_key = {category.key: category for category in new.categories}
    came = {_meaning(category): category for category in new.categories if category.key not in old.keys}
    pairs = []
    for was in old.categories:
        now = by_key.get(was.key) or came.pop(_meaning(was), None)
        if now is not None:
            pairs.append((was, now))
    return pairs


def _meaning(category: Category) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    return category.definition, category.includes, category.excludes


def _change(was: Category, now: Category) -> Changed | None:
    change = Changed(
        key=now.key,
        definition=_text(was.definition, now.definition),
        includes_added=_without(now.includes, was.includes),
        includes_removed=_without(was.includes, now.includes),
        excludes_added=_without(now.excludes, was.excludes),
        excludes_removed=_without(was.excludes, now.excludes),
    )
    return change if any(change[1:]) else None


def _without(texts: Iterable[str], others: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(text for text in texts if text not in others)


def _text(old: str, new: str) -> TextChange | None:
    return None if old == new else TextChange(old, new)


# ------------------------------------------------------------------------------------------------------ as text


def to_text(difference: Difference) -> str:
    lines: list[str] = []
    if difference.name is not None:
        lines.append(f"schema renamed: {difference.name.old} → {difference.name.new}")
    if difference.none_of_these is not None:
        lines.append(f"none of these: {'now' if difference.none_of_these else 'no longer'} an answer")
    for category in difference.removed:
        lines += [f"- category {category.key} ({category.name})", *_body(category)]
    for category in difference.added:
        lines += [f"+ category {category.key} ({category.name})", *_body(category)]
    lines += [_rename_line(renamed) for renamed in difference.renamed]
    for change in difference.changed:
        lines += [f"~ category {change.key}", *_change_lines(change)]
    if difference.reordered:
        lines.append("the order of the categories changed")
    return "\n".join(lines) or "no difference"


def _body(category: Category) -> list[str]:
    return [
        f"    definition: {category.definition}",
        *(f"    include: {text}" for text in category.includes),
        *(f"    exclude: {text}" for text in category.excludes),
    ]


def _rename_line(renamed: Renamed) -> str:
    parts = [
        f"{what} {text.old} → {text.new}"
        for what, text in (("key", renamed.key), ("name", renamed.name))
        if text.old != text.new
    ]
    return f"~ category {renamed.key.new} renamed: {', '.join(parts)}"


def _change_lines(change: Changed) -> list[str]:
    lines = []
    if change.definition is not None:
        lines += [f"    - definition: {change.definition.old}", f"    + definition: {change.definition.new}"]
    lines += [f"    - include: {text}" for text in change.includes_removed]
    lines += [f"    + include: {text}" for text in change.includes_added]
    lines += [f"    - exclude: {text}" for text in change.excludes_removed]
    lines += [f"    + exclude: {text}" for text in change.excludes_added]
    return lines
