"""Files from strangers: every way in which a line or a file can be unusable, and what is said about it."""

import gzip
import json
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.contract.record import MAX_LINE_BYTES, Conversation, Reject
from evaluation.contract.schema import CategorySchema, parse_schema
from evaluation.formats import reader as reading
from evaluation.formats.incoming import Unreadable, lines_of
from evaluation.formats.reader import Reader

SCHEMA = parse_schema(
    {
        "categories": [
            {"key": "refund", "name": "Refund", "definition": "Wants money back."},
            {"key": "delivery", "name": "Delivery", "definition": "Asks where an order is."},
        ]
    }
)


class Read(NamedTuple):
    good: list[Conversation]
    rejects: list[Reject]

    @property
    def ids(self) -> list[str]:
        return [conversation.id for conversation in self.good]


def read(folder: Path, content: bytes, schema: CategorySchema | None = SCHEMA) -> Read:
    path = folder / "upload"
    path.write_bytes(content)
    found = Read([], [])
    for one in Reader(path, schema):
        if isinstance(one, Reject):
            found.rejects.append(one)
        else:
            found.good.append(one)
    return found


def row(identity: str, text: str = "give it back", category: str | None = "refund", **more: Any) -> bytes:
    content = {"id": identity, "category": category, "messages": [{"role": "customer", "text": text}], **more}
    return json.dumps(content).encode()


def lines(*rows: bytes) -> bytes:
    return b"".join(one + b"\n" for one in rows)


SECRET = "my-card-is-4111"
BAD_LINES = {
    "NUL in a message": (row("b", f"{SECRET}\x00"), "messages[0] contains a NUL"),
    "NUL in the id": (row("b\x00"), "id contains a NUL"),
    "NUL byte": (b'{"id": "b\x00"}', "not JSON"),
    "half a surrogate pair": (
        b'{"id": "b", "messages": [{"role": "customer", "text": "\\ud800"}]}',
        "surrogate",
    ),
    "Latin-1": (row("b").replace(b"give", "gîve".encode("latin-1")), "not UTF-8 (byte"),
    "overlong UTF-8": (row("b").replace(b"give", b"g\xc0\xafve"), "not UTF-8"),
    "deep list": (row("b", extra=0).replace(b"0}", b"[" * 500 + b"]" * 500 + b"}"), "levels deep"),
    "deeper list": (b"[" * 500_000 + b"]" * 500_000, "nested too deeply"),
    "deep object": (b'{"a":' * 200_000 + b"1" + b"}" * 200_000, "longer than"),
    "deep text": (b'{"id": "b", "messages": ' + b"[" * 40 + b"]" * 40 + b"}", "messages[0] is nested"),
    "NaN": (row("b", extra=0).replace(b"0}", b"NaN}"), "not a number"),
    "infinite": (row("b", extra=0).replace(b"0}", b"1e999}"), "not a number"),
    "endless number": (row("b", extra=0).replace(b"0}", b"9" * 5000 + b"}"), "too many digits"),
    "too long a line": (row("b", "x" * (1 << 20)), "longer than 1048576 characters"),
    "too long a message": (row("b", "x" * 100_001), "messages.0.text"),
    "too many messages": (
        json.dumps({"id": "b", "messages": [{"role": "customer", "text": "x"}] * 501}).encode(),
        "at most 500",
    ),
    "no customer": (
        json.dumps({"id": "b", "messages": [{"role": "agent", "text": SECRET}]}).encode(),
        "no customer",
    ),
    "blank customer": (row("b", " \n "), "no customer"),
    "id used before": (row("a", "another"), "'a' was already used on line 1"),
    "unknown category": (
        row("b", category="returns"),
        "'returns' is not in the schema; it has refund, delivery",
    ),
    "endless category": (row("b", category=SECRET * 10_000), "128 characters"),
    "none not allowed": (row("b", category=None), "none_of_these"),
    "an empty id": (b'{"id": "", "messages": [{"role": "customer", "text": "x"}]}', "id"),
    "an id that shows nothing": (row("\u200b"), "id is empty"),
    "a key twice": (b'{"id": "b", "id": "c", "messages": []}', "the key 'id' stands twice"),
    "two keys of one meaning": (row("b", Category="refund"), "two keys of one object both mean `category`"),
    "messages and text": (row("b").replace(b"{", b'{"text": "x", ', 1), "both `messages` and `text`"),
    "a number as id": (b'{"id": 7, "messages": [{"role": "customer", "text": "x"}]}', "id"),
    "unknown split": (row("b", split="dev"), "split"),
    "unknown role": (row("b").replace(b"customer", b"bot"), "messages.0.role"),
    "a list": (b"[1, 2]", "dictionary"),
    "two objects": (row("b") + row("c"), "not JSON"),
    "half an object": (row("b")[:-5], "not JSON"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_bad_line_is_named_and_its_neighbours_are_kept(case: str, tmp_path: Path) -> None:
    line, reason = BAD_LINES[case]
    found = read(tmp_path, lines(row("a"), b"", line, row("z")))
    assert found.ids == ["a", "z"]
    assert [reject.line for reject in found.rejects] == [3]
    assert reason in found.rejects[0].reason, found.rejects[0]


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_reason_is_short_and_repeats_nothing_that_was_said(case: str, tmp_path: Path) -> None:
    reason = read(tmp_path, lines(BAD_LINES[case][0], row("a"))).rejects
    assert all(len(one.reason) < 300 and SECRET not in one.reason for one in reason)


def test_names_of_unknown_fields_are_not_repeated_in_reasons(tmp_path: Path) -> None:
    line = json.dumps({"id": "a", SECRET: "\x00", "messages": []}).encode()
    assert read(tmp_path, lines(line)).rejects == [Reject(1, "contains a NUL character")]


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\n\n \n"])
@pytest.mark.parametrize("packed", [False, True])
def test_line_ends_blank_lines_a_mark_at_the_beginning_and_packing_change_nothing(
    ending: bytes, packed: bool, tmp_path: Path
) -> None:
    content = b"\xef\xbb\xbf" + row("a") + ending + row("b")
    found = read(tmp_path, gzip.compress(content) if packed else content)
    assert (found.ids, found.rejects) == (["a", "b"], [])


def test_a_line_of_exactly_the_limit_is_taken(tmp_path: Path) -> None:
    room = MAX_LINE_BYTES - len(row("a", extra=""))
    assert read(tmp_path, lines(row("a", extra="x" * room), row("b"))).ids == ["a", "b"]
    assert read(tmp_path, lines(row("a", extra="x" * (room + 1)), row("b"))).ids == ["b"]


def test_a_file_without_an_end_of_line_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "upload"
    with path.open("wb") as file:
        file.write(b'{"id": "')
        for _ in range(24):
            file.write(b"x" * (1 << 20))
    tracemalloc.start()
    found = list(Reader(path, SCHEMA))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [type(one) for one in found] == [Reject]
    assert peak_bytes < 16 << 20


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.text(max_size=30), max_size=30),
    size=st.integers(1, 200),
)
def test_lines_are_cut_the_same_wherever_the_blocks_end(texts: list[str], size: int) -> None:
    content = "\n".join(texts)
    blocks: Iterable[str] = (content[at : at + size] for at in range(0, len(content), size))
    expected = content.split("\n")
    found = [line.text for line in lines_of(blocks)]
    assert found == (expected if expected[-1] else expected[:-1])


# ------------------------------------------------------------------------------------------------- the whole file


BAD_FILES = {
    "torn gzip": (gzip.compress(lines(row("a")))[:-3], "not_whole_gzip"),
    "half a gzip": (
        gzip.compress(lines(*(row(f"a{i}", str(i)) for i in range(999))))[:-900],
        "not_whole_gzip",
    ),
    "gzip and rubbish": (gzip.compress(lines(row("a"))) + b"rubbish", "not_whole_gzip"),
    "gzip bomb": (gzip.compress(b" " * (16 << 20)), "unpacks_too_large"),
    "bomb of good rows": (gzip.compress(lines(row("a")) * 100_000), "unpacks_too_large"),
    "half of a zip": (b"PK\x03\x04" + bytes(100), "not_whole_workbook"),
    "half of a character in UTF-16": ('\ufeff{"id": "a"}'.encode("utf-16-le")[:-1], "not_text"),
    "an old workbook": (b"\xd0\xcf\x11\xe0" + bytes(100), "unknown_form"),
    "a PDF": (b"%PDF-1.7", "unknown_form"),
    "a page": (b"<!doctype html><html>", "unknown_form"),
    "gzip in gzip": (gzip.compress(gzip.compress(lines(row("a")))), "unknown_form"),
    "nothing": (b"", "no_conversation"),
    "blanks": (b"\n\n  \n", "no_conversation"),
    "nothing, packed": (gzip.compress(b"", mtime=0), "no_conversation"),
    "a table without text": (b"id,message\na,hello\n", "no_text_column"),
    "a column twice": (b"text,category,Text \na,refund,b\n", "column_twice"),
    "a separator and nothing else": (b"sep=;\n", "no_header"),
    "words": (b"Dear customer,\nthank you.\n", "no_text_column"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_refused_as_a_whole(case: str, tmp_path: Path) -> None:
    content, code = BAD_FILES[case]
    with pytest.raises(Unreadable) as caught:
        read(tmp_path, content)
    assert caught.value.code == code


def test_reading_stops_at_too_many_rejects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_REJECTS", 50)
    path = tmp_path / "upload"
    path.write_bytes(lines(row("a")) + b"{\n" * 1000)
    reader = iter(Reader(path, SCHEMA))
    assert isinstance(next(reader), Conversation)
    assert [type(next(reader)) for _ in range(50)] == [Reject] * 50
    with pytest.raises(Unreadable) as caught:
        next(reader)
    assert caught.value.code == "too_many_rejects"


def test_there_is_a_most_to_the_conversations_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MAX_CONVERSATIONS", 5)
    assert len(read(tmp_path, lines(*(row(f"a{i}") for i in range(5)))).good) == 5
    with pytest.raises(Unreadable) as caught:
        read(tmp_path, lines(*(row(f"a{i}") for i in range(6))))
    assert caught.value.code == "too_many_conversations"


def test_progress_is_that_of_the_file_as_it_came(tmp_path: Path) -> None:
    path = tmp_path / "upload"
    path.write_bytes(gzip.compress(lines(*(row(f"a{i}", f"text {i}") for i in range(5000)))))
    reader = Reader(path, SCHEMA)
    assert reader.progress == (0, path.stat().st_size)
    seen = [reader.progress for _one in reader]
    assert seen == sorted(seen) and seen[-1] == (path.stat().st_size, path.stat().st_size)


# ------------------------------------------------------------------------------------------------------------- CSV


def test_messages_of_a_conversation_may_lie_apart_in_csv(tmp_path: Path) -> None:
    table = (
        "id,role,text,category,split\n"
        'a,customer,"it broke,\nplease help",refund,test\n'
        "b,customer,where is it,delivery,\n"
        "a,agent,sorry,refund,test\n"
    )
    found = read(tmp_path, table.encode())
    assert [(c.id, [m.text for m in c.messages], c.category, c.split) for c in found.good] == [
        ("a", ["it broke,\nplease help", "sorry"], "refund", "test"),
        ("b", ["where is it"], "delivery", None),
    ]


def test_a_row_of_csv_that_is_not_utf_8_costs_its_own_conversation_only(tmp_path: Path) -> None:
    table = "id,text\na,hello\nb,gîve\n".encode("latin-1") + "c,gîve\n".encode()
    found = read(tmp_path, table)
    assert found.ids == ["a", "c"]
    assert [(reject.line, "not UTF-8" in reject.reason) for reject in found.rejects] == [(3, True)]


def test_without_a_schema_labels_are_only_bounded(tmp_path: Path) -> None:
    found = read(tmp_path, lines(row("a", category="anything"), row("b", category="x" * 129)), schema=None)
    assert (found.ids, len(found.rejects)) == (["a"], 1)
