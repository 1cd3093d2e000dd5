"""What may be known of a conversation beside what is said in it: as it comes in, is stored, asked for and shown."""

import re
from datetime import datetime
from typing import Annotated, Any, NamedTuple, TypeVar

from fastapi import Depends, Query
from pydantic import AwareDatetime, Field, JsonValue
from sqlalchemy import ColumnElement, Select, String, cast, func, or_

from app.errors import InvalidRequest, Problem
from app.http.payload import RequestBody, ResponseBody
from app.infra.tables.datasets import Attributed
from evaluation.contract import record
from evaluation.contract.record import ATTRIBUTES, METADATA_NAME, Channel, Language, Metadata, Reference

Q = TypeVar("Q", bound=Select[*tuple[Any, ...]])
_NAME = re.compile(METADATA_NAME)
_TIME = "2026-01-02T10:30:00Z"
_LANGUAGE = "In which it is held, as a BCP 47 tag."
_CHANNEL = "By which it came."
_WHEN = "When it began, as its sender says; not when it came in."
_CUSTOMER = "What the sender calls the customer, to find and delete by it later. It is kept as it is: take a pseudonym."
_METADATA = "Anything else, up to 32 names with a text, a number or a truth value each."
_METADATA_EXAMPLE: dict[str, JsonValue] = {"order_total": 49.9, "country": "DE"}


class AttributesIn(RequestBody):
    language: Language | None = Field(None, description=_LANGUAGE, examples=["de"])
    channel: Channel | None = Field(None, description=_CHANNEL, examples=["chat"])
    time: AwareDatetime | None = Field(None, description=_WHEN, examples=[_TIME])
    customer_reference: Reference | None = Field(None, description=_CUSTOMER, examples=["customer-5f2c"])
    metadata: Metadata | None = Field(None, description=_METADATA, examples=[_METADATA_EXAMPLE])

    def attributes(self) -> dict[str, Any]:
        """As `evaluation.contract.record.Conversation` takes them."""
        return {name: getattr(self, name) for name in ATTRIBUTES}


class AttributesOut(ResponseBody):
    language: str | None = Field(description=_LANGUAGE, examples=["de"])
    channel: str | None = Field(description=_CHANNEL, examples=["chat"])
    time: AwareDatetime | None = Field(description=_WHEN, examples=[_TIME])
    customer_reference: str | None = Field(description=_CUSTOMER, examples=["customer-5f2c"])
    metadata: dict[str, JsonValue] | None = Field(description=_METADATA, examples=[_METADATA_EXAMPLE])


def stored(given: record.Conversation) -> dict[str, Any]:
    """By the names of columns."""
    known = {name: getattr(given, name) for name in ATTRIBUTES}
    return {"extra": known.pop("metadata"), "conversation_reference": given.conversation_reference} | known


def plain(given: record.Conversation) -> dict[str, Any]:
    """Those that are known, as JSON has them; a conversation's own dump leaves them out."""
    known = {name: value for name in ATTRIBUTES if (value := getattr(given, name)) is not None}
    return known | ({"time": given.time.isoformat()} if given.time is not None else {})


def shown(row: Attributed) -> dict[str, Any]:
    """By the names of `AttributesOut`."""
    names = (name for name in ATTRIBUTES if name != "metadata")
    return {name: getattr(row, name) for name in names} | {"metadata": row.extra}


class AttributeFilter(NamedTuple):
    """begun: from when on, and before when, by its sender's `time`. metadata: texts `NAME=VALUE`, all of which must
    hold."""

    language: str | None
    channel: str | None
    customer_reference: str | None
    begun: tuple[datetime | None, datetime | None]
    metadata: list[tuple[str, str]]

    def of(self, query: Q, table: type[Attributed]) -> Q:
        return query.where(*self._conditions(table))

    def _conditions(self, table: type[Attributed]) -> list[ColumnElement[bool]]:
        found: list[ColumnElement[bool]] = []
        if self.language is not None:  # tags mean the same in any case
            found.append(func.lower(table.language) == self.language.lower())
        for name in ("channel", "customer_reference"):
            wanted = getattr(self, name)
            if wanted is not None:
                found.append(getattr(table, name) == wanted)
        first, last = self.begun
        found += [] if first is None else [table.time >= first]
        found += [] if last is None else [table.time < last]
        return found + [_says(table, name, value) for name, value in self.metadata]


def _says(table: type[Attributed], name: str, value: str) -> ColumnElement[bool]:
    """Numbers and truth values are compared as JSON writes them; as a text SQLite has 1 and 0 for the latter."""
    as_text: ColumnElement[bool] = table.extra[name].as_string() == value
    if value not in ("true", "false"):
        return as_text
    return or_(as_text, cast(table.extra.op("->")(name), String) == value)


async def _attribute_filter(
    language: Annotated[str | None, Query(description="Only in this language.", examples=["de"])] = None,
    channel: Annotated[str | None, Query(description="Only from this channel.", examples=["chat"])] = None,
    customer_reference: Annotated[
        str | None, Query(description="Only of this customer.", examples=["customer-5f2c"])
    ] = None,
    time_from: Annotated[
        AwareDatetime | None,
        Query(description="Only where it began then or later, by its `time`.", examples=[_TIME]),
    ] = None,
    time_to: Annotated[
        AwareDatetime | None, Query(description="Only where it began before then.", examples=[_TIME])
    ] = None,
    metadata: Annotated[
        list[str] | None,
        Query(
            description="`NAME=VALUE`: only where the metadata says so; repeatable.", examples=["country=DE"]
        ),
    ] = None,
) -> AttributeFilter:
    """Raises: InvalidRequest."""
    pairs = []
    for one in metadata or ():
        name, equals, value = one.partition("=")
        if not equals or not _NAME.fullmatch(name):
            problem = Problem("query.metadata", "write NAME=VALUE, with a name that metadata can have")
            raise InvalidRequest(f"{problem.where}: {problem.message}", problems=[problem])
        pairs.append((name, value))
    return AttributeFilter(language, channel, customer_reference, (time_from, time_to), pairs)


FilterByAttributes = Annotated[AttributeFilter, Depends(_attribute_filter)]
