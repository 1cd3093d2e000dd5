"""An example of an edit as a person reads it: which definitions it changed, and what was answered before and after."""

from collections.abc import Sequence
from typing import NamedTuple

from evaluation.contract.schema import CategorySchema
from evaluation.metrics.sample_scores import KeptEdit
from evaluation.reporting.report import Report, ReportedExample


class ChangedCategory(NamedTuple):
    """A category's definition, with what it includes and excludes. None: the schema does not have it."""

    category: str
    before: str | None
    after: str | None


class Flip(NamedTuple):
    """changed: the categories that were right before and after the edit."""

    example: ReportedExample
    changed: list[ChangedCategory]


def flips(report: Report) -> list[Flip]:
    return [Flip(example, _changed(example, report.suite.edits)) for example in report.examples]


def _changed(example: ReportedExample, edits: Sequence[KeptEdit]) -> list[ChangedCategory]:
    asked = (example.family, example.detail)
    edit = next((one for one in edits if (one.family, one.detail) == asked), None)
    keys = [key for key in dict.fromkeys((example.gold_before, example.gold_after)) if key is not None]
    if edit is not None:
        before, after = edits[0].category_schema, edit.category_schema
        return [ChangedCategory(key, _said(before, key), _said(after, key)) for key in keys]
    if example.gold_before is None:
        return []
    return [ChangedCategory(example.gold_before, example.definition_before, example.definition_after)]


def _said(schema: CategorySchema, key: str) -> str | None:
    found = next((category for category in schema.categories if category.key == key), None)
    if found is None:
        return None
    conditions = (("Includes", found.includes), ("Excludes", found.excludes))
    return " ".join([found.definition, *(f"{what}: {'; '.join(each)}." for what, each in conditions if each)])
