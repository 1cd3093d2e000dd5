"""A stored file without what was deleted: a frozen dataset without a conversation, a report without words."""

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from evaluation.reporting import report
from evaluation.reporting.page import page
from evaluation.reporting.report import Report


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
        return report.without_words(Report.model_validate_json(source.read_bytes()))
    except (ValidationError, ValueError):
        return None


def write_as(made: Report, path: Path) -> None:
    """In the form that its name says."""
    if path.suffix == ".html":
        path.write_bytes(page.render(made).encode())
    else:
        report.write(made, path)
