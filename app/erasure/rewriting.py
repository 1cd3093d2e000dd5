"""A stored file without what was deleted: a frozen dataset without a conversation, a report without words."""

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from evaluation.metrics.sample_scores import KeptEdit
from evaluation.reporting import report
from evaluation.reporting.page import page
from evaluation.reporting.report import Report

_BY_WHAT_IS_SAID = ("novel", "split")  # families of edits


class Rewritten(NamedTuple):
    sha256: str
    lines: int


def frozen_without(source: Path, target: Path, conversations: Collection[str]) -> Rewritten:
    """Every other line stays as it is, to the byte."""
    digest, count = hashlib.sha256(), 0
    with source.open("rb") as lines, target.open("wb") as kept:
        for line in lines:
            if json.loads(line)["id"] not in conversations:
                kept.write(line)
                digest.update(line)
                count += 1
    return Rewritten(digest.hexdigest(), count)


def report_without_words(source: Path) -> Report | None:
    """None where it is of a version that cannot be read any more."""
    try:
        made = report.without_words(Report.model_validate_json(source.read_bytes()))
    except (ValidationError, ValueError):
        return None
    first, *others = made.suite.edits
    known = {category.key for category in first.category_schema.categories}
    edits = [first, *(_without_phrase(one, known) for one in others)]
    return made.model_copy(update={"suite": made.suite.model_copy(update={"edits": edits})})


def _without_phrase(edit: KeptEdit, known: Collection[str]) -> KeptEdit:
    """Such an edit may define a category by what several customers say. What is asked of it needs its key alone.

    known: keys of the schema as it is.
    """
    if edit.family not in _BY_WHAT_IS_SAID:
        return edit
    categories = tuple(
        one if one.key in known else one.model_copy(update={"definition": f"left out ({one.key})"})
        for one in edit.category_schema.categories
    )
    schema = edit.category_schema.model_copy(update={"categories": categories})
    return edit.model_copy(update={"category_schema": schema, "detail": edit.detail.partition(":")[0]})


def write_as(made: Report, path: Path) -> None:
    """In the form that its name says."""
    if path.suffix == ".html":
        path.write_bytes(page.render(made).encode())
    else:
        report.write(made, path)
