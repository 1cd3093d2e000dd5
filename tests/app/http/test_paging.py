"""Cursors are ours, are not to be changed, and belong to one list."""

from datetime import UTC, datetime, timedelta, timezone
from typing import NamedTuple
from uuid import UUID

import pytest

from app.errors import InvalidCursor
from app.http.paging import PAGE_BYTES, PageRequest, Position, decode, encode

SECRET = b"a secret of thirty-two characters"
POSITION = Position(datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC), UUID(int=5))


class Row(NamedTuple):
    created_at: datetime
    id: UUID


def rows(count: int) -> list[Row]:
    return [Row(POSITION.at - timedelta(seconds=number), UUID(int=number)) for number in range(count)]


def test_a_cursor_comes_back_as_the_position_that_it_was_made_from() -> None:
    cursor = encode(POSITION, SECRET, "/v1/schemas?")
    assert decode(cursor, SECRET, "/v1/schemas?") == POSITION
    elsewhere = POSITION._replace(at=POSITION.at.astimezone(timezone(timedelta(hours=5))))
    assert encode(elsewhere, SECRET, "/v1/schemas?") == cursor


def test_a_cursor_that_was_changed_is_refused_wherever_it_was_changed() -> None:
    cursor = encode(POSITION, SECRET, "/v1/schemas?")
    for place in range(len(cursor)):
        # The last character of each part carries bits that base 64 ignores: change all six.
        other = "A" if cursor[place] not in "AB" else "z"
        with pytest.raises(InvalidCursor):
            decode(cursor[:place] + other + cursor[place + 1 :], SECRET, "/v1/schemas?")


@pytest.mark.parametrize("cursor", ["", ".", "a.b", "a.b.c", "é", "W10.W10", "=.=", "A" * 499])
def test_what_was_never_a_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidCursor):
        decode(cursor, SECRET, "/v1/schemas?")


def test_a_cursor_is_no_good_for_another_list_or_another_secret() -> None:
    cursor = encode(POSITION, SECRET, "/v1/schemas?")
    with pytest.raises(InvalidCursor):
        decode(cursor, SECRET, "/v1/schemas?state=ready")
    with pytest.raises(InvalidCursor):
        decode(cursor, b"another secret of 32 characters!", "/v1/schemas?")


def test_a_page_shows_no_more_than_its_limit_and_says_whether_there_is_more() -> None:
    asked = PageRequest(limit=3, after=None, secret=SECRET, listing="/v1/schemas?")
    full = asked.page(rows(asked.fetch), lambda row: row.id.int)
    assert full.items == [0, 1, 2]
    assert full.next_cursor is not None
    assert decode(full.next_cursor, SECRET, "/v1/schemas?").id.int == 2
    assert asked.page(rows(3), lambda row: row.id.int).next_cursor is None
    assert asked.page([], lambda row: row).items == []


def test_a_page_of_long_rows_ends_early_and_goes_on() -> None:
    asked = PageRequest(3, None, SECRET, "/v1/conversations?")
    assert asked.shortened([10, 10, 10, 10]) == asked
    for sizes, shown in (
        ([PAGE_BYTES, 1, 1, 1], 1),
        ([PAGE_BYTES + 1, 1], 1),
        ([1, PAGE_BYTES - 1, 1], 2),
        ([], 1),
    ):
        assert asked.shortened(sizes).limit == shown
    page = asked.shortened([PAGE_BYTES, 1, 1]).page(rows(2), lambda row: row.id)
    assert page.items == [UUID(int=0)] and page.next_cursor is not None
