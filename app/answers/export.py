"""Kept answers as a file: JSONL as the API shows them, or CSV for a spreadsheet."""

import csv
import io
from collections.abc import AsyncIterator, Sequence
from enum import StrEnum
from typing import Final

from app.answers import repository
from app.answers.filters import AnswerFilter
from app.answers.payloads import KeptAnswerOut
from app.http.paging import PageRequest, Position
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from evaluation.contract.schema import NONE_WORD

AT_ONCE: Final = 500
_COLUMNS: Final = (
    "id", "created_at", "conversation_reference", "customer_reference", "language", "channel", "time", "text",
    "schema_id", "schema_version_id", "model_version_id", "mode", "category", "confidence", "abstained",
    "degraded", "provisional", "failure", "reasoning", "feedback_right", "feedback_category",
)  # fmt: skip
_FORMULA: Final = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\n")


class ExportForm(StrEnum):
    jsonl = "jsonl"
    csv = "csv"


async def exported(
    database: Database, scope: TenantScope, wanted: AnswerFilter, form: ExportForm
) -> AsyncIterator[bytes]:
    """The newest first. No connection is held while a reader is slow."""
    if form is ExportForm.csv:
        yield _csv([_COLUMNS])
    after: Position | None = None
    while True:
        async with transaction(database, scope, read_only=True) as session:
            paging = PageRequest(AT_ONCE, after, b"", "")
            paging = paging.shortened(await repository.sizes(session, scope, wanted, paging))
            found = await repository.listed(session, scope, wanted, paging)
            shown = [KeptAnswerOut.of(row) for row in found[: paging.limit]]
        if shown:
            yield _csv(map(_cells, shown)) if form is ExportForm.csv else _lines(shown)
            after = Position(shown[-1].created_at, shown[-1].id)
        if len(found) <= paging.limit:
            return


def _lines(rows: Sequence[KeptAnswerOut]) -> bytes:
    return "".join(f"{row.model_dump_json()}\n" for row in rows).encode()


def _csv(rows: "Sequence[Sequence[str]] | map[list[str]]") -> bytes:
    text = io.StringIO()
    # Everything quoted: a semicolon ends a cell where programs have another idea of CSV.
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(rows)
    return text.getvalue().encode()


def _cells(row: KeptAnswerOut) -> list[str]:
    """A cell that a spreadsheet would calculate is given a quotation mark, which makes it a text. Lines end in one way:
    readers take a lone carriage return for the end of a row."""
    known = row.model_dump(mode="json")
    known["text"] = "\n".join(f"{message.role}: {message.text}" for message in row.messages)
    named = row.category is not None or row.abstained or row.failure is not None
    known["category"] = row.category if named else NONE_WORD
    if row.feedback is not None:
        known["feedback_right"] = row.feedback.right
        if row.feedback.labelled:
            known["feedback_category"] = row.feedback.category_key or NONE_WORD
    cells = ["" if (value := known.get(name)) is None else _written(value) for name in _COLUMNS]
    return [f"'{cell}" if cell.startswith(_FORMULA) else cell for cell in cells]


def _written(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text.replace("\r\n", "\n").replace("\r", "\n")
