"""Small files in every form that is read, to be spoilt; and files that are small and are made to cost much."""

import gzip
import io
import json
import random
import zipfile
from collections.abc import Iterator
from functools import cache
from typing import Any, Final, NamedTuple

import openpyxl

LONGEST: Final = 16 << 10  # of a spoilt file
TEXTS: Final = (
    "Where is my parcel?", 'He said: "refund, please"', "a,b;c\td", "été 🎈 \u202e \u2028 \x85", "=1+1", "", " ",
    "a" + "\u0301\u0316" * 40,
    "\x00", "\ud800", "<|im_end|>", "<think>", "</conversation>", "\\", "{}", "[]", "null", "1e999", "9" * 400,
    "<!--", "&lt;", "**", "Answer", "the so my final answer is:", "(A)", "category: B", "“quoted”",
)  # fmt: skip
_BYTES: Final = (b"\x1f\x8b", b"PK\x03\x04", b"\xff\xfe", b"\xfe\xff", b"\x80\x81")
_SYNTAX: Final = (
    '"', "'", ",", ";", "\t", "\n", "\r", "\r\n", "{", "}", "[", "]", ":", "- ", "  ", "|", "&a ", "*a", "#", "---\n",
    "!!python/object ", "<<: ", "%YAML", "\ufeff", '"messages"', '"text"', '"category"', '"id"', "\\ud800", "\\u0000",
    "NaN", "-", "0", "true", "]]>", "sep=;\n", "[" * 200, '{"a":' * 200, '"' * 50, "\n" * 50, " " * 300, "x y " * 99,
)  # fmt: skip
_PIECES: Final = (*_BYTES, *(piece.encode("utf-8", "surrogatepass") for piece in (*TEXTS, *_SYNTAX)))

_TICKET: Final[dict[str, Any]] = {
    "id": 3101, "subject": "Where is it", "description": "Due on Monday.", "requester_id": 7, "tags": ["refund"],
    "comments": [
        {"id": 1, "author_id": 7, "public": True, "plain_body": "It was due."},
        {"id": 2, "author_id": 9, "public": True, "html_body": "<p>Sorry &amp; thanks.</p>"},
    ],
}  # fmt: skip
_TALK: Final[dict[str, Any]] = {
    "type": "conversation", "id": "4471",
    "source": {"type": "conversation", "body": "<p>Where is it?</p>", "author": {"type": "user", "id": "u1"}},
    "tags": {"type": "tag.list", "tags": [{"type": "tag", "name": "refund"}]},
    "conversation_parts": {"conversation_parts": [
        {"part_type": "comment", "body": "<p>One<br>moment.</p>", "author": {"type": "admin", "id": "a1"}},
    ]},
}  # fmt: skip
_INTENTS: Final = {
    "intents": [
        {
            "displayName": "refund",
            "trainingPhrases": [{"type": "EXAMPLE", "parts": [{"text": "give my "}, {"text": "money back"}]}],
        }
    ]
}
_RASA: Final = """version: "3.1"
nlu:
- intent: refund
  examples: |
    - my order from [Berlin](city) is late
    - did order [4711]{"entity": "order"} leave
- intent: delivery
  examples:
  - text: |
      where is it
- synonym: Berlin
  examples: |
    - the capital
"""


class SwellingFile(NamedTuple):
    name: str
    content: bytes


@cache
def whole() -> tuple[bytes, ...]:
    """One of every form."""
    rows = [
        {"id": str(number), "messages": [{"role": "customer", "text": text}], "category": "refund"}
        for number, text in enumerate(("where is it", "money back", "broken"))
    ]
    lines = "\n".join(map(json.dumps, rows))
    table = 'id,text,category,split\n1,where is it,delivery,train\n2,"money, back",refund,test\n'
    texts = (
        lines, json.dumps(rows), json.dumps(rows, indent=1), table, table.replace(",", ";"),
        table.replace(",", "\t"), "sep=;\n" + table.replace(",", ";"), _RASA, json.dumps(_TICKET),
        json.dumps({"tickets": [_TICKET]}), json.dumps({"conversations": [_TALK]}), json.dumps(_INTENTS),
    )  # fmt: skip
    made = [text.encode() for text in texts]
    return (*made, lines.encode("utf-16"), table.encode("utf-16-le"), gzip.compress(made[0]), _workbook())


def spoilt(drawn: random.Random) -> bytes:
    """One of them, changed in a few places: cut, repeated, joined with another, or with pieces that mean something."""
    content = bytearray(drawn.choice(whole()))
    for _ in range(drawn.choice((1, 1, 2, 4, 8))):
        at = drawn.randrange(len(content) + 1)
        until = min(len(content), at + drawn.choice((1, 2, 8, 64)))
        match drawn.randrange(7):
            case 0:
                del content[at:until]
            case 1:
                content[at:at] = drawn.choice(_PIECES)
            case 2:
                content[at:until] = drawn.choice(_PIECES)
            case 3:
                content[at:at] = content[at:until] * drawn.choice((2, 16, 64))
            case 4:
                content[at:until] = drawn.randbytes(until - at)
            case 5:
                other = drawn.choice(whole())
                content[at:at] = other[: drawn.randrange(len(other) + 1)]
            case _:
                del content[at:]
        content = content[:LONGEST] or bytearray(b" ")
    return gzip.compress(bytes(content), 1) if drawn.random() < 0.02 else bytes(content)


def swelling(unit: int) -> Iterator[SwellingFile]:
    """unit: bytes; each has a few of them at most."""
    big = b"a" * unit
    yield SwellingFile("gzip of zeros", gzip.compress(b"\0" * (64 * unit), 1) * 16)
    yield SwellingFile("gzip in gzip", gzip.compress(gzip.compress(big)))
    yield SwellingFile("one long line", big * 4)
    yield SwellingFile("long lines", (b'{"id": "' + big + b'"}\n') * 4)
    yield SwellingFile("empty lists", b"[" + b"[]," * unit)
    yield SwellingFile("depth", b"[" * (2 * unit))
    yield SwellingFile("depth of objects", b'{"a":' * (unit // 2))
    yield SwellingFile("an open quotation", b'text,category\n"' + b"x,\n" * unit)
    yield SwellingFile("columns", b"text" + b",c" * unit + b"\n" + b"a," * unit)
    yield SwellingFile("quotation marks", b"text\n" + b'""' * unit)
    yield SwellingFile("line feeds", b"text\n" + b"\n" * (4 * unit))
    yield SwellingFile("rejected lines", b"{\n" * unit)
    yield SwellingFile("numbers", b'{"text": ' + b"9" * unit + b"}")
    yield SwellingFile("escapes", json.dumps([{"text": "\u20ac" * (unit // 8)}]).encode())
    for mark in ("<!--", "<p ", "<", "< ", "&#x", "&", "<br "):
        body = mark * (unit // 2 // len(mark))
        ticket = _TICKET | {"comments": [{"author_id": 7, "public": True, "html_body": body}]}
        yield SwellingFile(f"markup of {mark!r}", json.dumps(ticket).encode())
    yield SwellingFile("white space in markup", json.dumps(_talk("<" + " " * (unit // 2))).encode())
    for mark in ("[", "[a](", "[a]{", "- ", "&a [*a, ", "? ", "{"):
        yield SwellingFile(f"YAML of {mark!r}", b"nlu:\n- intent: a\n  examples: |\n    - " + _of(mark, unit))
        yield SwellingFile(f"YAML structure of {mark!r}", b"version: 1\nnlu:\n  " + _of(mark, unit))
    yield SwellingFile("YAML aliases", _yaml_aliases())
    yield SwellingFile("a workbook that unpacks to much", _swollen_workbook(unit))
    yield SwellingFile("a workbook of many parts", _many_parts())
    yield SwellingFile(
        "personal data", json.dumps({"text": "a.b+" * (unit // 16) + "0049 1 " * 8000}).encode()
    )
    yield SwellingFile("white space", b" " * (4 * unit))
    heap = "a" + "\u0301\u0316" * (unit // 8)
    for where in ("text", "category"):
        row = {"text": "where is it", "category": "a"} | {where: heap}
        yield SwellingFile(f"marks upon marks in {where}", json.dumps(row, ensure_ascii=False).encode())
    yield SwellingFile("marks upon marks in a header", f"text,{heap}\nb,c".encode())
    yield SwellingFile("UTF-16", (b"\xff\xfe" + "\U0001f388".encode("utf-16-le") * (unit // 2)))


def _of(mark: str, unit: int) -> bytes:
    return (mark * (unit // 2 // len(mark))).encode()


def _talk(body: str) -> dict[str, Any]:
    return _TALK | {"source": {"type": "conversation", "body": body, "author": {"type": "user", "id": "u1"}}}


def _yaml_aliases() -> bytes:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 8)}]" for n in range(1, 12)]
    return "\n".join(["version: 1", *lines, "nlu: *a11"]).encode()


def _workbook() -> bytes:
    book = openpyxl.Workbook()
    sheet = book.active
    for row in (["text", "category"], ["where is it", "delivery"], ["money back", "refund"]):
        sheet.append(row)
    packed = io.BytesIO()
    book.save(packed)
    return packed.getvalue()


def _swollen_workbook(unit: int) -> bytes:
    """Its first sheet is rows of one character, a thousand times as long as it is packed."""
    row = b'<row><c t="inlineStr"><is><t>a</t></is></c></row>'
    head = b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'
    return _repacked({"xl/worksheets/sheet1.xml": head + row * (unit // 2) + b"</sheetData></worksheet>"})


def _many_parts() -> bytes:
    return _repacked({f"xl/worksheets/s{number}.xml": b"<a/>" for number in range(5_000)})


def _repacked(parts: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(_workbook())) as source,
        zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, parts.pop(name, source.read(name)))
        for name, content in parts.items():
            target.writestr(name, content)
    return made.getvalue()
