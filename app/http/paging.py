"""Lists in pages, newest first. A cursor is opaque and signed, and good for the list that it came from only."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import accumulate
from typing import Annotated, Any, Generic, NamedTuple, TypeVar
from urllib.parse import parse_qsl, urlencode
from uuid import UUID

from fastapi import Depends, Query, Request
from pydantic import Field
from sqlalchemy import ColumnElement, Select, and_, or_, true
from sqlalchemy.orm import InstrumentedAttribute

from app.errors import InvalidCursor
from app.http.payload import ResponseBody

MAX_LIMIT = 200
PAGE_BYTES = 2 << 20  # of rows that may be long: as much as one answer is made of at once
_TAG_BYTES = 16
_NOT_FILTERS = ("cursor", "limit")

Item = TypeVar("Item")
Row = TypeVar("Row")
Q = TypeVar("Q", bound=Select[*tuple[Any, ...]])


class Position(NamedTuple):
    """Of the last row of a page."""

    at: datetime
    id: UUID


class Page(ResponseBody, Generic[Item]):
    items: list[Item] = Field(description="Newest first.")
    next_cursor: str | None = Field(
        description="Send it as `cursor` to read on; null on the last page.",
        examples=["WyIyMDI1LTExLTIyVDA2OjAwOjAwKzAwOjAwIl0.c2lnbmF0dXJl"],
    )


class PageRequest(NamedTuple):
    limit: int
    after: Position | None
    secret: bytes
    listing: str

    @property
    def fetch(self) -> int:
        """How many rows to ask the database for: one more tells whether there is a next page."""
        return self.limit + 1

    def newest_first(
        self, query: Q, at: InstrumentedAttribute[datetime], identity: InstrumentedAttribute[UUID]
    ) -> Q:
        """The rows of this page: the order and what a cursor leaves behind belong together."""
        after = _older(at, identity, self.after)
        return query.where(after).order_by(at.desc(), identity.desc()).limit(self.fetch)

    def shortened(self, sizes: Sequence[int]) -> "PageRequest":
        """For rows that may be long: as many of the next as PAGE_BYTES hold, one at least.

        sizes: in bytes or characters, of the rows that a query like `newest_first` finds, in its order.
        """
        together = accumulate(sizes[: self.limit])
        return self._replace(limit=max(1, sum(size <= PAGE_BYTES for size in together)))

    def page(
        self,
        rows: Sequence[Row],
        item: Callable[[Row], Item],
        position: Callable[[Row], Position] | None = None,
    ) -> Page[Item]:
        """rows: up to `fetch` of them, in the order of `position` (by default created_at and id), newest first."""
        shown = rows[: self.limit]
        more = len(rows) > self.limit
        last = (position or _of_creation)(shown[-1]) if more else None
        return Page(
            items=[item(row) for row in shown],
            next_cursor=None if last is None else encode(last, self.secret, self.listing),
        )


def _of_creation(row: Any) -> Position:
    return Position(row.created_at, row.id)


def _older(
    at: InstrumentedAttribute[datetime], identity: InstrumentedAttribute[UUID], after: Position | None
) -> ColumnElement[bool]:
    if after is None:
        return true()
    return or_(at < after.at, and_(at == after.at, identity < after.id))


def encode(position: Position, secret: bytes, listing: str) -> str:
    body = json.dumps([position.at.astimezone(UTC).isoformat(), str(position.id)]).encode()
    return f"{_text(body)}.{_text(_signature(body, secret, listing))}"


def decode(cursor: str, secret: bytes, listing: str) -> Position:
    """Raises: InvalidCursor."""
    try:
        body, signature = (
            base64.b64decode(_padded(part), b"-_", validate=True) for part in cursor.split(".")
        )
        if not hmac.compare_digest(signature, _signature(body, secret, listing)):
            raise ValueError("the signature does not match")
        at, identity = json.loads(body)
        return Position(datetime.fromisoformat(at), UUID(identity))
    except ValueError:
        raise InvalidCursor("the cursor is not one that this list gave; start without it") from None


def _signature(body: bytes, secret: bytes, listing: str) -> bytes:
    return hmac.digest(secret, listing.encode() + b"\n" + body, hashlib.sha256)[:_TAG_BYTES]


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _padded(part: str) -> str:
    return part + "=" * (-len(part) % 4)


async def _page_request(
    request: Request,
    cursor: Annotated[
        str | None, Query(description="`next_cursor` of the page before.", max_length=500, examples=[None])
    ] = None,
    limit: Annotated[
        int,
        Query(
            description="How many items at most; fewer where they are long.",
            ge=1,
            le=MAX_LIMIT,
            examples=[50],
        ),
    ] = 50,
) -> PageRequest:
    secret: bytes = request.app.state.secret
    filters = sorted((k, v) for k, v in parse_qsl(request.url.query) if k not in _NOT_FILTERS)
    listing = f"{request.url.path}?{urlencode(filters)}"
    after = None if cursor is None else decode(cursor, secret, listing)
    return PageRequest(limit, after, secret, listing)


Paging = Annotated[PageRequest, Depends(_page_request)]
