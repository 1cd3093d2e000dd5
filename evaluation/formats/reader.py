"""The one reader of files that people hand in: it looks at the bytes, says what it took them for, and is strict.

Each row becomes a conversation or a reject with its line and the reason. What nobody reads is counted and named.
Memory is bounded by one row; by a limit where the rows of a conversation may lie apart, or where a form cannot be read
in pieces (Rasa's YAML, workbooks). Time is bounded because reading stops at MAX_REJECTS.
"""

import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, assert_never

from pydantic import ValidationError

from evaluation.contract.record import (
    ATTRIBUTES,
    Conversation,
    Reject,
    Row,
    conversations,
    first_problem,
    json_row,
)
from evaluation.contract.schema import CategorySchema
from evaluation.contract.strict_json import unusable
from evaluation.formats import chats, exports, pieces, rasa, tables, workbook
from evaluation.formats.cells import OpenQuote, Record, records
from evaluation.formats.exports import LISTS, Context, Product, product_of
from evaluation.formats.forms import (
    Form,
    Lines,
    Listed,
    ListedUnder,
    Objects,
    Rasa,
    Table,
    behind,
    described,
    form_of,
)
from evaluation.formats.incoming import DecodedText, Incoming, Unreadable, lines_of, not_text, text_of
from evaluation.formats.pieces import TextPiece
from evaluation.formats.redaction import Redaction, Redactor
from evaluation.formats.unread import Unread, known, shortened

MAX_CONVERSATIONS: Final = 250_000
MAX_REJECTS: Final = 100_000
_FIELDS: Final = {name: name for name in (*tables.COLUMNS, "messages", *ATTRIBUTES)}
_MESSAGE: Final = {"role": "role", "text": "text"}
_KNOWN_PLACE: Final = re.compile(r"(id|messages|category|criterion|split)\b(\[\d+\])?")


class ReadingProgress(NamedTuple):
    """Of the file as it came, packed or not."""

    read_bytes: int
    total_bytes: int


class Reader:
    """`for one in reader:` gives a Conversation or a Reject each. Raises: Unreadable, while it is read.

    name: of the file as people know it; only exports that say there what they hold are read by it.
    form, meaning: what it was taken for, and what its columns or keys are, once reading has begun.
    unread: what is lost, once it has ended. redacted: how much personal data of each kind was taken out.
    originals: where they are kept, our own objects as they came, in order.
    """

    def __init__(
        self,
        path: Path,
        schema: CategorySchema | None,
        name: str | None = None,
        *,
        keep_originals: bool = False,
        redaction: Redaction = Redaction.nothing,
    ):
        self._incoming, self._schema = Incoming(path), schema
        self._name = (name or path.name).removesuffix(".gz")
        self._product: Product | None = None
        self.form = ""
        self.meaning: list[str] = []
        self.unread = Unread()
        self.originals: list[dict[str, Any]] = []
        self.redacted: Counter[str] = Counter()
        self._keeps, self._redaction, self._grouped = keep_originals, redaction, False

    @property
    def progress(self) -> ReadingProgress:
        return ReadingProgress(self._incoming.read_bytes, self._incoming.total_bytes)

    def __iter__(self) -> Iterator[Conversation | Reject]:
        rows = map(self._with_usable_attributes, self._rows())
        if self._redaction is not Redaction.nothing:
            rows = map(self._without_personal_data, rows)
        return _bounded(conversations(rows, self._schema))

    def _rows(self) -> Iterator[Row | Reject]:
        blocks = self._incoming.blocks()
        first = next(blocks, b"")
        everything = _joined(first, blocks)
        if first.startswith(workbook.MAGIC):
            yield from self._workbook(everything)
            return
        text = text_of(everything)
        if not text.head.strip():
            text = _without_blanks(text)
        form = form_of(text.head)
        self._describe(described(form, text.encoding))
        yield from self._of(form, text)

    def _of(self, form: Form, text: DecodedText) -> Iterator[Row | Reject]:
        match form:
            case Table():
                yield from self._table(form, text)
            case Rasa():
                self.meaning = list(rasa.MEANING)
                yield from rasa.rows(_whole(text), self.unread)
            case Lines(line_end):
                lines = (line for line in lines_of(text.blocks, line_end) if line.text.strip())
                yield from self._objects(TextPiece(line.number, line.text) for line in lines)
            case Objects(line_end):
                yield from self._objects(pieces.objects(text.blocks, line_end))
            case Listed(line_end, begin):
                yield from self._objects(pieces.listed(text.blocks, begin, line_end))
            case ListedUnder(line_end, key):
                self._product = LISTS[key]
                yield from self._objects(pieces.under_key(text.blocks, key, line_end))
            case _:
                assert_never(form)

    def _without_personal_data(self, row: Row | Reject) -> Row | Reject:
        """Before a row gets an id, which may be a hash of its text."""
        if isinstance(row, Reject) or not isinstance(row.raw, dict):
            return row
        messages = row.raw.get("messages")
        readable = [
            one
            for one in (messages if isinstance(messages, list) else ())
            if isinstance(one, dict) and isinstance(one.get("text"), str)
        ]
        redactor = Redactor([one["text"] for one in readable], self._redaction, self.redacted)
        for message in readable:
            message["text"] = redactor.text(message["text"])
        if isinstance(row.raw.get("metadata"), dict):
            row.raw["metadata"] = redactor.metadata(row.raw["metadata"])
        return row

    def _with_usable_attributes(self, row: Row | Reject) -> Row | Reject:
        """What is known of a conversation beside its messages is no reason to lose it."""
        if isinstance(row, Reject) or not isinstance(row.raw, dict):
            return row
        for name in ATTRIBUTES.keys() & row.raw.keys():
            try:
                if row.raw[name] is not None:
                    ATTRIBUTES[name].validate_python(row.raw[name])
            except ValidationError as error:
                del row.raw[name]
                kind = (
                    "no time with a zone, as 2026-01-31T09:00:00Z" if name == "time" else first_problem(error)
                )
                self.unread.other[f"a `{name}` is left out: {kind}"] += 1
        return row

    def _describe(self, form: str) -> None:
        self.form = f"{form}, packed with gzip" if self._incoming.packed else form

    # ------------------------------------------------------------------------------------------------- tables

    def _workbook(self, blocks: Iterator[bytes]) -> Iterator[Row | Reject]:
        """Unpacked, it is read where it lies: a workbook's parts are found from its end."""
        with tempfile.TemporaryDirectory(prefix="steerwise-workbook-") as folder:
            path = self._incoming.path
            if self._incoming.packed:
                path = Path(folder) / "workbook"
                with path.open("wb") as file:
                    for block in blocks:
                        file.write(block)
            else:
                for _ in blocks:
                    pass
            with path.open("rb") as file:
                sheet = workbook.sheet_of(file, self.unread)
                self._describe(f"an Excel workbook (XLSX), its sheet `{shortened(sheet.name)}`")
                yield from self._below(sheet.header, sheet.records)

    def _table(self, form: Table, text: DecodedText) -> Iterator[Row | Reject]:
        found = records(behind(lines_of(text.blocks, form.line_end), form.skip), form.dialect)
        try:
            header = next(found, None)
        except OpenQuote as error:
            raise Unreadable("open_quote", f"cannot be read: line {error.line}: {error}") from None
        if header is None:
            raise Unreadable("no_header", "has no header: nothing follows the line that names the separator")
        if isinstance(header, Reject):
            raise Unreadable("no_header", f"has no header: line {header.line}: {header.reason}")
        try:
            yield from self._below(header.cells, found)
        except OpenQuote as error:
            lost = "no row of the file is used" if self._grouped else "no row from here on is used"
            yield Reject(error.line, f"{error}; {lost}")

    def _below(self, cells: list[str], found: Iterator[Record | Reject]) -> Iterator[Row | Reject]:
        header = tables.header_of(cells)
        self.meaning, self._grouped = header.meaning, "id" in header.at
        yield from tables.rows(header, found, self.unread, self._schema)

    # --------------------------------------------------------------------------------------------------- JSON

    def _objects(self, found: Iterable[TextPiece | Reject]) -> Iterator[Row | Reject]:
        for one in found:
            row = one if isinstance(one, Reject) else _parsed(one)
            if isinstance(row, Reject):
                yield row
            elif not isinstance(row.raw, dict):
                yield Reject(
                    row.line, "is no JSON object, which would be a dictionary of `messages` and `category`"
                )
            else:
                yield from self._object(row)

    def _object(self, row: Row) -> Iterator[Row | Reject]:
        product = product_of(row.raw) or (self._product if "messages" not in row.raw else None)
        if product is not None:
            if not self.meaning:
                self.meaning = list(product.meaning)
                self.form = f"{product.name}: {self.form}"
            context = Context(self._schema, self.unread, self._name)
            yield from exports.rows(product, row, context)
            return
        if not self.meaning:
            self.meaning = ["each object is a conversation, with `messages` or with the `text` of one"]
        if self._keeps:
            self.originals.append(row.raw)
        try:
            yield Row(row.line, self._ours(row.raw))
        except ValueError as error:
            yield Reject(row.line, str(error))

    def _ours(self, raw: dict[str, Any]) -> dict[str, Any]:
        """Raises: ValueError."""
        made = known(raw, _FIELDS, self.unread)
        text, role = made.pop("text", None), made.pop("role", None)
        if text is not None and "messages" in made:
            raise ValueError("has both `messages` and `text`; which of them is meant cannot be known")
        if text is not None:
            made["messages"] = [{"text": text, "role": "customer" if role is None else role}]
        elif role is not None:
            self.unread.key("role")
        messages = made.get("messages")
        if isinstance(messages, list):
            made["messages"] = [
                known(told, _MESSAGE, self.unread, "messages.") if isinstance(told, dict) else told
                for one in messages
                for told in (chats.ours(one, self.unread) if chats.is_one(one) else [one])
            ]
        return made


def _parsed(piece: TextPiece) -> Row | Reject:
    problem = not_text(piece.text)
    if problem is not None and "NUL" not in problem:
        return Reject(piece.line, problem)
    row = json_row(piece.line, piece.text)
    return row if isinstance(row, Reject) else _usable(row)


def _usable(row: Row) -> Row | Reject:
    """Names of fields that are not ours are text of the file, which a reason must not repeat."""
    found = next(unusable(row.raw), None)
    if found is None:
        return row
    if "surrogate" in found.message:
        return Reject(row.line, "not UTF-8, or half of a surrogate pair; save the file as UTF-8")
    place = _KNOWN_PLACE.match(found.where)
    return Reject(row.line, f"{place[1]}{place[2] or ''} {found.message}" if place else found.message)


def _bounded(read: Iterable[Conversation | Reject]) -> Iterator[Conversation | Reject]:
    good = rejects = 0
    for one in read:
        if isinstance(one, Reject):
            rejects += 1
        else:
            good += 1
        if good > MAX_CONVERSATIONS:
            reason = f"has more than {MAX_CONVERSATIONS} conversations; make several of it"
            raise Unreadable("too_many_conversations", reason)
        yield one
        if rejects >= MAX_REJECTS:
            raise Unreadable("too_many_rejects", f"has {MAX_REJECTS} lines that cannot be used")


def _joined(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _without_blanks(text: DecodedText) -> DecodedText:
    """A file may begin with more white space than the head holds, or be nothing else. Raises: Unreadable."""
    for block in text.blocks:
        if block.strip():
            raise Unreadable("unknown_form", "begins with more white space than any file has")
    raise Unreadable("no_conversation", "is empty")


def _whole(text: DecodedText) -> str:
    found, length = [], 0
    for block in text.blocks:
        length += len(block)
        if length > rasa.MAX_CHARS:
            raise Unreadable(
                "too_large", f"is YAML of more than {rasa.MAX_CHARS >> 20} MiB; make several of it"
            )
        found.append(block)
    whole = "".join(found)
    problem = not_text(whole)
    if problem is not None:
        raise Unreadable("not_text", f"cannot be read: {problem}")
    return whole
