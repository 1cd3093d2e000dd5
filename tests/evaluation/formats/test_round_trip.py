"""Whatever conversations there are, in whatever form they are written: the same come out.

STEERWISE_FORMAT_FILES says how many files each of these tests writes; with 750 they are more than 5,000.
"""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evaluation.contract.record import Conversation, Message, Role, Split
from evaluation.contract.schema import parse_schema
from evaluation.contract.text import blank
from evaluation.formats.reader import Reader
from tests.evaluation.formats import writing

pytestmark = pytest.mark.seconds

FILES = int(os.environ.get("STEERWISE_FORMAT_FILES", "60"))
KEYS = ("late_parcel", "refund", "café")
SCHEMA = parse_schema(
    {
        "none_of_these": True,
        "categories": [{"key": key, "name": key, "definition": f"Asks about {key}."} for key in KEYS],
    }
)
_ODD = st.sampled_from(
    [
        ",",
        ";",
        '"',
        "'",
        "|",
        "\t",
        "\u2028",
        "\x85",
        "=",
        "<b>",
        "&amp;",
        "{",
        "[",
        "\\",
        "\u202e",
        "é",
        "🎈",
    ]
)
_ANY = st.characters(exclude_categories=("Cs", "Cc", "Cn"), exclude_characters="\ufeff")
_LINE = st.lists(_ODD | _ANY | st.sampled_from(["where is it", " ", "5"]), min_size=1, max_size=12).map(
    "".join
)
LINES = st.lists(_LINE, min_size=1, max_size=3).map("\n".join)


def usable(text: str) -> str:
    """A text that keeps its ends in every form, and of which something is seen."""
    return text.strip() if not blank(text) else "hello"


def texts(several_lines: bool) -> st.SearchStrategy[str]:
    return (LINES if several_lines else _LINE).map(usable)


@st.composite
def datasets(
    draw: st.DrawFn, *, messages: int = 4, lines: bool = True, labelled: bool = False, splits: bool = True
) -> list[Conversation]:
    found = []
    for number in range(draw(st.integers(1, 6))):
        said = [Message(role=Role.customer, text=draw(texts(lines)))]
        for _ in range(draw(st.integers(0, messages - 1))):
            role = draw(st.sampled_from([Role.customer, Role.agent]))
            said.append(Message(role=role, text=draw(texts(lines))))
        given_: dict[str, object] = {"id": f"c-{number}", "messages": said}
        if labelled or draw(st.booleans()):
            given_["category"] = draw(st.sampled_from([*KEYS, None]))
        if splits and draw(st.booleans()):
            given_["split"] = draw(st.sampled_from(list(Split)))
        found.append(Conversation.model_validate(given_))
    return found


def read(content: bytes) -> list[Conversation]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(content)
        found = list(Reader(path, SCHEMA))
    assert all(isinstance(one, Conversation) for one in found), found
    return [one for one in found if isinstance(one, Conversation)]


def same(found: list[Conversation], data: list[Conversation]) -> None:
    assert [writing.json_of(one) for one in found] == [writing.json_of(one) for one in data]


def said(data: list[Conversation]) -> list[tuple[str, str]]:
    """Of conversations of one message whose ids the form does not keep."""
    return sorted((one.messages[0].text, one.category or "") for one in data)


ENCODING = st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])
often = settings(max_examples=FILES, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@often
@given(datasets(), st.sampled_from(["lines", "CRLF", "list", "pretty", "objects"]), ENCODING, st.booleans())
def test_json(data: list[Conversation], form: str, encoding: str, gz: bool) -> None:
    text = {
        "lines": lambda: writing.jsonl(data, "\n"),
        "CRLF": lambda: writing.jsonl(data, "\r\n"),
        "list": lambda: writing.listed(data, None),
        "pretty": lambda: writing.listed(data, 2),
        "objects": lambda: writing.objects(data),
    }[form]()
    same(read(writing.packed(writing.encoded(text, encoding), gz)), data)


@often
@given(
    datasets(),
    st.builds(
        writing.Table,
        delimiter=st.sampled_from(",;\t|"),
        line_end=st.sampled_from(["\n", "\r\n"]),
        header=st.sampled_from(
            [("id", "role", "text", "category", "split"), ("ID", " Role", "Text ", "CATEGORY", "split")]
        ),
        sep=st.booleans(),
        quote_all=st.booleans(),
    ),
    ENCODING,
    st.booleans(),
)
def test_tables(data: list[Conversation], how: writing.Table, encoding: str, gz: bool) -> None:
    same(read(writing.packed(writing.encoded(writing.table(data, how), encoding), gz)), data)


@often
@given(datasets(lines=False), st.sampled_from(",;\t|"), st.booleans())
def test_tables_whose_lines_end_with_cr(data: list[Conversation], delimiter: str, gz: bool) -> None:
    how = writing.Table(delimiter, "\r", ("id", "role", "text", "category", "split"), False, True)
    same(read(writing.packed(writing.table(data, how).encode(), gz)), data)


@often
@given(datasets(), st.booleans())
def test_workbooks(data: list[Conversation], gz: bool) -> None:
    same(read(writing.packed(writing.workbook(data), gz)), data)


@often
@given(datasets(splits=False), st.booleans(), st.booleans())
def test_zendesk(data: list[Conversation], wrapped: bool, gz: bool) -> None:
    same(read(writing.packed(writing.zendesk(data, wrapped).encode(), gz)), data)


@often
@given(datasets(splits=False), st.booleans())
def test_intercom(data: list[Conversation], gz: bool) -> None:
    same(read(writing.packed(writing.intercom(data).encode(), gz)), data)


@often
@given(datasets(messages=1, lines=False, labelled=True, splits=False), st.booleans(), st.booleans())
def test_rasa_and_dialogflow(data: list[Conversation], of_rasa: bool, gz: bool) -> None:
    text = writing.rasa(data) if of_rasa else writing.dialogflow(data)
    assert said(read(writing.packed(text.encode(), gz))) == said(data)
