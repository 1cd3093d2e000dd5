"""A table whose first row names the columns, as rows of conversations: one a message, or one a conversation."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from evaluation.contract.record import Reject, Role, Row
from evaluation.contract.schema import NONE_WORD, CategorySchema
from evaluation.contract.text import blank, folded
from evaluation.formats.cells import Record
from evaluation.formats.incoming import Unreadable
from evaluation.formats.unread import Unread, shortened

_ATTRIBUTES: Final = (
    "language",
    "channel",
    "time",
    "customer_reference",
)  # the first of a conversation is its own
COLUMNS: Final = ("id", "role", "text", "category", "criterion", "split", *_ATTRIBUTES)
_ONCE: Final = ("category", "criterion", "split")  # said once, they hold for the whole conversation
MAX_CELLS_KEPT: Final = 128 << 20  # characters, where the rows of a conversation may lie apart


class TableHeader(NamedTuple):
    """at: of the columns that are read, where they stand. others: those that are not, by their place."""

    at: dict[str, int]
    others: dict[int, str]
    width: int

    @property
    def meaning(self) -> list[str]:
        """One sentence for each column that is read."""
        each = "one row a message, put together by `id`" if "id" in self.at else "one row a conversation"
        return [each, *(f"column {place + 1} is `{name}`" for name, place in self.at.items())]


def header_of(cells: Sequence[str]) -> TableHeader:
    """Case, blanks and what is not seen do not matter. Raises: Unreadable."""
    at: dict[str, int] = {}
    others: dict[int, str] = {}
    for place, cell in enumerate(cells):
        name = folded(cell)
        if name not in COLUMNS:
            others[place] = cell.strip()
        elif name in at:
            raise Unreadable(
                "column_twice", f"has the column `{name}` twice: columns {at[name] + 1} and {place + 1}"
            )
        else:
            at[name] = place
    if "text" not in at:
        named = ", ".join(f"`{shortened(cell)}`" for cell in cells[:12])
        raise Unreadable(
            "no_text_column", f"has no column `text`; its first row must name the columns, and is: {named}"
        )
    return TableHeader(at, others, len(cells))


def rows(
    header: TableHeader,
    records: Iterable[Record | Reject],
    unread: Unread,
    schema: CategorySchema | None,
) -> Iterator[Row | Reject]:
    """A conversation of which one row cannot be used is left out as a whole."""
    reader = _Rows(header, unread, schema)
    return reader.grouped(records) if "id" in header.at else reader.single(records)


class _Said(NamedTuple):
    line: int
    value: str


class _Group:
    """The rows of one conversation so far."""

    def __init__(self, line: int, identity: str | None):
        self.line, self.identity = line, identity
        self.messages: list[dict[str, str]] = []
        self.said: dict[str, _Said] = {}
        self.problem: Reject | None = None

    def row(self) -> Row:
        raw: dict[str, Any] = {"messages": self.messages}
        if self.identity is not None:
            raw["id"] = self.identity
        return Row(self.line, raw | {name: one.value for name, one in self.said.items()})


class _Rows:
    def __init__(self, header: TableHeader, unread: Unread, schema: CategorySchema | None):
        self._header, self._unread = header, unread
        self._keys = {folded(key) for key in schema.keys} | {NONE_WORD} if schema else set[str]()
        unread.columns.update({name: 0 for name in header.others.values() if name})

    def single(self, records: Iterable[Record | Reject]) -> Iterator[Row | Reject]:
        for record in records:
            if isinstance(record, Reject):
                yield record
                continue
            yield self._of_one(record)

    def _of_one(self, record: Record) -> Row | Reject:
        group = _Group(record.line, None)
        problem = self._add(group, record)
        return group.row() if problem is None else Reject(record.line, problem)

    def grouped(self, records: Iterable[Record | Reject]) -> Iterator[Row | Reject]:
        """Nothing comes before everything has been read."""
        groups: dict[str, _Group] = {}
        kept = 0
        for record in records:
            if isinstance(record, Reject):
                yield record
                continue
            kept += sum(map(len, record.cells))
            if kept > MAX_CELLS_KEPT:
                reason = f"has more than {MAX_CELLS_KEPT >> 20} MiB of rows with ids; write it as JSONL"
                raise Unreadable("csv_too_large", reason)
            identity = self._cell(record, "id")
            if blank(identity):
                yield self._without_id(record)
                continue
            group = groups.setdefault(identity, _Group(record.line, identity))
            problem = self._add(group, record)
            if problem is not None:
                group.problem = group.problem or Reject(record.line, problem)
                yield Reject(record.line, problem)
        yield from filter(None, map(_whole, groups.values()))

    def _without_id(self, record: Record) -> Row | Reject:
        if "role" in self._header.at:
            return Reject(record.line, "the id is empty, so that nobody knows whose message this is")
        return self._of_one(record)

    def _add(self, group: _Group, record: Record) -> str | None:
        """Returns why it cannot be, if so."""
        surplus = [cell for cell in record.cells[self._header.width :] if not blank(cell)]
        if surplus:
            return (
                f"has {len(record.cells)} cells and the header {self._header.width}; "
                "put quotation marks around a cell that holds the delimiter"
            )
        if self._swallows(record):
            return "a cell goes over lines that are rows of their own; is its quotation mark closed?"
        for place, name in self._header.others.items():
            if place < len(record.cells) and not blank(record.cells[place]):
                self._unread.columns[name or f"number {place + 1}"] += 1
        role = self._cell(record, "role")
        group.messages.append(
            {
                "role": Role.customer if blank(role) else role.strip(),
                "text": self._cell(record, "text"),
            }
        )
        return self._say(group, record)

    def _say(self, group: _Group, record: Record) -> str | None:
        for name in _ONCE:
            value = self._cell(record, name)
            if blank(value):
                continue
            value = value.strip() if name != "criterion" else value
            before = group.said.setdefault(name, _Said(record.line, value))
            if folded(before.value) != folded(value):
                return f"the conversation has another {name} on line {before.line}"
        for name in _ATTRIBUTES:
            value = self._cell(record, name).strip()
            first = group.said.setdefault(name, _Said(record.line, value)) if value else None
            if first is not None and first.value != value and name != "time":
                self._unread.other[f"of several `{name}` in one conversation only the first is kept"] += 1
        return None

    def _cell(self, record: Record, name: str) -> str:
        place = self._header.at.get(name)
        return record.cells[place] if place is not None and place < len(record.cells) else ""

    def _swallows(self, record: Record) -> bool:
        """Whether a line inside of a cell ends as rows do: behind a delimiter with a category of the schema."""
        if record.last == record.line or "category" not in self._header.at or not self._keys:
            return False
        place = self._header.at["category"]
        for cell in record.cells:
            for line in cell.replace("\r", "\n").split("\n")[:-1]:
                for delimiter in ",;\t":
                    pieces = line.split(delimiter)
                    if len(pieces) > 1 and folded(pieces[min(place, len(pieces) - 1)]) in self._keys:
                        return True
        return False


def _whole(group: _Group) -> Row | Reject | None:
    """A line that cannot be used has said so; where it was not the first of its conversation, that line says so too."""
    if group.problem is None:
        return group.row()
    if group.problem.line == group.line:
        return None
    return Reject(group.line, f"its conversation goes on in line {group.problem.line}, which cannot be used")
