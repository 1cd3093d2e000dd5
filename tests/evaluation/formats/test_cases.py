"""Files as other programs write them: out of each come the right conversations, or a reject with its line."""

import gzip
import json
from pathlib import Path

import pytest

from evaluation.contract.record import Conversation
from evaluation.formats import pieces
from evaluation.formats.reader import Reader
from tests.evaluation.formats.reading import NONE, UNLABELLED, read

TWO = [("where is it", "late_parcel"), ("money back", "refund")]
TABLE = "text,category\nwhere is it,late_parcel\nmoney back,refund\n"
PLAIN = {
    "commas": TABLE,
    "semicolons": TABLE.replace(",", ";"),
    "tabs": TABLE.replace(",", "\t"),
    "bars": TABLE.replace(",", "|"),
    "sep=": "sep=;\r\n" + TABLE.replace(",", ";").replace("\n", "\r\n"),
    "a quoted sep=": '"sep=\t"\n' + TABLE.replace(",", "\t"),
    "CRLF": TABLE.replace("\n", "\r\n"),
    "CR": TABLE.replace("\n", "\r"),
    "no end of line at the end": TABLE.rstrip("\n"),
    "blank lines": "\n\n" + TABLE.replace("\n", "\n\n \n"),
    "rows of delimiters": TABLE + ",\n,,,\n",
    "blanks around names": TABLE.replace("text,category", "text , Category"),
    "capitals": TABLE.replace("text,category", "TEXT,CATEGORY"),
    "blanks behind delimiters": TABLE.replace(",", ", "),
    "blanks before quotation marks": 'text, category\n"where is it", "late_parcel"\nmoney back, "refund"\n',
    "everything quoted": '"text","category"\n"where is it","late_parcel"\n"money back","refund"\n',
    "what nobody sees in a name": TABLE.replace("text", "\u200btext"),
    "trailing delimiters": TABLE.replace("\n", ",\n"),
    "labels in capitals": TABLE.replace("refund", "Refund "),
}
JSON = [
    {"id": str(n), "messages": [{"role": "customer", "text": text}], "category": label}
    for n, (text, label) in enumerate(TWO)
]
JSONS = {
    "lines": "\n".join(map(json.dumps, JSON)),
    "a list": json.dumps(JSON),
    "a pretty list": json.dumps(JSON, indent=1),
    "a list over lines": "[\n" + ",\n".join(map(json.dumps, JSON)) + "\n]\n",
    "pretty objects": "\n".join(json.dumps(one, indent=2) for one in JSON),
    "lines ended by CR": "\r".join(map(json.dumps, JSON)),
    "roles of chat APIs": json.dumps(JSON).replace("customer", "user"),
    "keys in capitals": json.dumps(JSON)
    .replace('"messages"', '"Messages"')
    .replace('"category"', '"CATEGORY "'),
    "texts": "\n".join(json.dumps({"text": text, "category": label}) for text, label in TWO),
}
ENCODINGS = {
    "UTF-8": lambda text: text.encode(),
    "UTF-8 with a mark": lambda text: text.encode("utf-8-sig"),
    "UTF-16": lambda text: text.encode("utf-16"),
    "UTF-16 BE": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "UTF-16 without a mark": lambda text: text.encode("utf-16-le"),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("form", [*PLAIN, *JSONS])
def test_the_same_two_conversations_come_out_of_every_form(
    form: str, encoding: str, packed: bool, tmp_path: Path
) -> None:
    content = ENCODINGS[encoding]((PLAIN | JSONS)[form])
    found = read(tmp_path, gzip.compress(content) if packed else content)
    assert (found.said, found.rejects, found.lost) == (TWO, [], [])
    assert found.reader.form and found.reader.meaning


ROWS = "id,role,text,category\n"
ODD_TABLES: dict[str, tuple[str, list[tuple[str, str]], list[tuple[int, str]]]] = {
    "an empty cell says nothing": (
        "text,category\na,\nb\nc,(none)\n",
        [("a", UNLABELLED), ("b", UNLABELLED), ("c", NONE)],
        [],
    ),
    "a label on any row": (
        f"{ROWS}1,customer,a,\n1,agent,b,refund\n1,customer,c,\n",
        [("a / b / c", "refund")],
        [],
    ),
    "two labels": (
        f"{ROWS}1,customer,a,refund\n2,customer,x,\n1,customer,c,late_parcel\n",
        [("x", UNLABELLED)],
        [(2, "its conversation goes on in line 4"), (4, "another category on line 2")],
    ),
    "a surplus cell": (
        "text,category\nyes, please,refund\nb,refund\n",
        [("b", "refund")],
        [(2, "has 3 cells")],
    ),
    "an empty id among messages": (
        f"{ROWS}1,customer,a,\n,agent,b,\n",
        [("a", UNLABELLED)],
        [(3, "the id is empty")],
    ),
    "an unknown role": (f"{ROWS}1,bot,a,\n", [], [(2, "role")]),
    "an unknown category": ("text,category\na,returns\n", [], [(2, "'returns' is not in the schema")]),
    "a label in another Unicode form": ("text,category\na,CAFE\u0301\n", [("a", "café")], []),
    "text that shows nothing": (
        "text,category\n\u200b,refund\nb,refund\n",
        [("b", "refund")],
        [(2, "no customer message")],
    ),
    "a cell of several lines": (
        'text,category\n"a\n\nb",refund\nc,refund\n',
        [("a\n\nb", "refund"), ("c", "refund")],
        [],
    ),
    "a quotation mark in a cell": (
        'text,category\nmy 5" frame,refund\n"a ""b""",refund\n',
        [('my 5" frame', "refund"), ('a "b"', "refund")],
        [],
    ),
    "a mark that is never closed": (
        'text,category\na,refund\n"where is it,late_parcel\nb,refund\n',
        [("a", "refund")],
        [(3, "never closed; no row from here on")],
    ),
    "a mark that is closed elsewhere": (
        'text,category\n"a,refund\nb,refund\nmy 5" frame,refund\n',
        [],
        [(2, "on line 4, the cell goes on; no row from here on")],
    ),
    "rows inside of a cell": (
        'text,category\n"where is it,late_parcel\nhe said ",refund\nb,refund\n',
        [("b", "refund")],
        [(2, "rows of their own")],
    ),
    "a mark that is never closed, with ids": (
        'id,text\n1,a\n2,"b\n',
        [],
        [(3, "no row of the file is used")],
    ),
    "a lone CR": (
        "text,category\na\rb,refund\nc,refund\n",
        [("c", "refund")],
        [(2, "a carriage return stands alone")],
    ),
    "a CR in a quoted cell": ('text,category\n"a\rb",refund\n', [("a\rb", "refund")], []),
    "a huge cell": (
        f"text,category\n{'x' * 140_000},refund\nb,refund\n",
        [("b", "refund")],
        [(2, "has 140000 characters, and 100000 are the most")],
    ),
    "a cell beyond every limit": (
        'text,category\n"' + "x\n" * 700_000 + '",refund\nb,refund\n',
        [("b", "refund")],
        [(2, "longer than 1048576")],
    ),
    "line separators that end no line": (
        "text,category\na\u2028b\u0085c\x1cd,refund\n",
        [("a\u2028b\u0085c\x1cd", "refund")],
        [],
    ),
    "a NUL": ("text,category\na\0b,refund\nb,refund\n", [("b", "refund")], [(2, "NUL")]),
    "one column": ("text\na\nb c\n", [("a", UNLABELLED), ("b c", UNLABELLED)], []),
    "an unknown split": ("text,split\na,dev\nb,TEST\n", [("b", UNLABELLED)], [(2, "split")]),
}


@pytest.mark.parametrize("case", ODD_TABLES)
def test_a_table_is_read_strictly(case: str, tmp_path: Path) -> None:
    content, said, rejects = ODD_TABLES[case]
    found = read(tmp_path, content)
    assert found.said == said
    assert [line for line, _ in sorted(found.rejects)] == [line for line, _ in rejects], found.rejects
    for (_, reason), (_, expected) in zip(sorted(found.rejects), rejects, strict=True):
        assert expected in reason


ODD_JSON: dict[str, tuple[str, list[tuple[str, str]], list[tuple[int, str]]]] = {
    "null and nothing": (
        '{"text": "a", "category": null}\n{"text": "b"}\n{"text": "c", "category": "(None)"}',
        [("a", NONE), ("b", UNLABELLED), ("c", NONE)],
        [],
    ),
    "an empty label": ('{"text": "a", "category": ""}', [], [(1, "category is empty")]),
    "a list that is cut off": (
        '[{"text": "a"},\n{"text": "b"',
        [("a", UNLABELLED)],
        [(2, "not JSON"), (2, "cut off")],
    ),
    "something behind the list": (
        '[{"text": "a"}]\noops',
        [("a", UNLABELLED)],
        [(2, "behind the end of the list")],
    ),
    "a mistake in a list": (
        '[{"text": "a"},\n oops,\n {"text": "b"}]',
        [("a", UNLABELLED), ("b", UNLABELLED)],
        [(2, "not JSON")],
    ),
    "a line of a pretty list": (
        '[\n {"text": "a"},\n {\n  "text": b\n }\n]',
        [("a", UNLABELLED)],
        [(3, "at line 4")],
    ),
    "brackets in texts": (
        '[{"text": "a]}\\"["}, {"text": "b\\\\"}]',
        [('a]}"[', UNLABELLED), ("b\\", UNLABELLED)],
        [],
    ),
    "line separators that end no line": (
        '{"text": "a\u2028b\u0085c"}\n',
        [("a\u2028b\u0085c", UNLABELLED)],
        [],
    ),
    "messages of a chat API": (
        '{"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "a"},'
        ' {"role": "assistant", "content": null, "tool_calls": [{}]}, {"role": "tool", "content": "{}"},'
        ' {"role": "assistant", "content": [{"type": "text", "text": "b"}, {"type": "image_url"}]}],'
        ' "category": "refund"}\n{"messages": [{"role": "system", "content": "Be kind."}]}\n'
        '{"messages": [{"role": ["user"], "content": "a"}]}\n{"messages": [{"role": "user", "content": 7}]}',
        [("a / b", "refund")],
        [(2, "messages: is empty"), (3, "messages.0.role"), (4, "messages.0.text")],
    ),
    "pages of lists, one a line": (
        '{"n": 1, "x": {"tickets": []}, "tickets": [{"description": "a"}], "next": "[{\\"}"}\n'
        '{"tickets": []}\n{"error": "slow down"}\n {"tickets": [{"description": "b"},\n{"description": "c"}]}\n',
        [("a", UNLABELLED), ("b", UNLABELLED), ("c", UNLABELLED)],
        [(3, "has no list `tickets`")],
    ),
    "something behind a page": (
        '{"tickets": [{"description": "a"}]}\nInternal Server Error\n{"tickets": [{"description": "b"}]}',
        [("a", UNLABELLED)],
        [(2, "behind the end of the list")],
    ),
    "a second page that is cut off": (
        '{"tickets": [{"description": "a"}]}\n{"tickets": [{"description": "b"}',
        [("a", UNLABELLED), ("b", UNLABELLED)],
        [(2, "cut off")],
    ),
    "a second page that is cut off before its list": (
        '{"tickets": [{"description": "a"}]}\n{"next": 2,',
        [("a", UNLABELLED)],
        [(2, "before the list `tickets` begins")],
    ),
    "no object": ('{"text": "a"}\n7\n', [("a", UNLABELLED)], [(2, "no JSON object")]),
}


@pytest.mark.parametrize("case", ODD_JSON)
def test_json_is_read_strictly(case: str, tmp_path: Path) -> None:
    content, said, rejects = ODD_JSON[case]
    found = read(tmp_path, content)
    assert found.said == said
    assert [line for line, _ in found.rejects] == [line for line, _ in rejects], found.rejects
    for (_, reason), (_, expected) in zip(found.rejects, rejects, strict=True):
        assert expected in reason


@pytest.mark.parametrize("case", [case for case in ODD_JSON if "page" in case])
def test_pages_are_cut_alike_wherever_a_block_of_the_file_ends(case: str) -> None:
    content = ODD_JSON[case][0]
    whole = list(pieces.under_key([content], "tickets"))
    for size in (1, 2, 3, 7):
        blocks = [content[at : at + size] for at in range(0, len(content), size)]
        assert list(pieces.under_key(blocks, "tickets")) == whole


def test_what_nobody_reads_is_named_with_what_it_may_be(tmp_path: Path) -> None:
    assert read(tmp_path, "text,intent,,notes\na,refund,x,\nb,refund,,\n").lost == [
        "column `intent` is not read (2 with something in it); if it is the category, call it `category`",
        "column `notes` is not read (0 with something in it)",
        "column `number 3` is not read (1 with something in it)",
    ]
    rows = '{"text": "a", "label": "refund", "messages.": ""}\n{"messages": [{"text": "b", "role": "user", "at": 1}]}'
    assert read(tmp_path, rows).lost == [
        "key `label` is not read (1 with something in it); if it is the category, call it `category`",
        "key `messages.at` is not read (1 with something in it)",
    ]


def test_rows_without_ids_are_called_by_their_text_and_their_number_among_equals(tmp_path: Path) -> None:
    def ids(content: str) -> dict[str, str]:
        path = tmp_path / "f"
        path.write_text(content)
        return {c.id: c.messages[0].text for c in Reader(path, None) if isinstance(c, Conversation)}

    before, after = ids("text\na\nb\na\n"), ids("text\nnew\na\nb\na\n")
    assert len(before) == 3 and before.items() < after.items()
    assert before.items() <= ids('[{"text": "b"}, {"text": "a"}, {"text": "a"}]').items()
