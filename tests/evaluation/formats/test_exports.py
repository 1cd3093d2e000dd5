"""What other products export: the samples that the documentation shows, and what goes wrong with such files."""

import time
from pathlib import Path

import pytest

from evaluation.contract.record import Conversation, Reject
from evaluation.contract.schema import parse_schema
from evaluation.formats.exports import plain_text
from evaluation.formats.incoming import Unreadable
from evaluation.formats.reader import Reader

SAMPLES = Path(__file__).parents[3] / "docs/formats/samples"
SCHEMA = parse_schema(
    {
        "none_of_these": True,
        "categories": [
            {"key": "late_parcel", "name": "Late parcel", "definition": "Asks where a parcel is."},
            {"key": "refund", "name": "Refund", "definition": "Wants money back."},
        ],
    }
)


def shown(reader: Reader) -> tuple[list[str], list[tuple[int, str]]]:
    good, rejects = [], []
    for one in reader:
        if isinstance(one, Reject):
            rejects.append((one.line, one.reason))
        else:
            good.append(told(one))
    return good, rejects


def told(one: Conversation) -> str:
    label = repr(one.category) if one.labelled else "no label"
    name = "" if one.id.startswith("text-") else f"{one.id} "
    return f"{name}{' | '.join(f'{m.role.value}: {m.text}' for m in one.messages)} -> {label}"


def test_zendesk_tickets() -> None:
    reader = Reader(SAMPLES / "zendesk.json", SCHEMA)
    good, rejects = shown(reader)
    assert good == [
        "3101 customer: My parcel was due on Monday. | agent: Sorry & thanks for waiting. | "
        "customer: It is still not here. -> 'late_parcel'",
        "3102 customer: Please give my money back. -> 'refund'",
        "3104 customer: Do you sell boats? -> None",
    ]
    assert rejects == [(3, "its tags name several categories: late_parcel, refund")]
    assert reader.form.startswith("a Zendesk export of tickets")
    lost = list(reader.unread.sentences())
    assert "internal notes of Zendesk are not read (1)" in lost
    assert "key `status` is not read (2 with something in it)" in lost


def test_intercom_conversations() -> None:
    reader = Reader(SAMPLES / "intercom.json", SCHEMA)
    good, rejects = shown(reader)
    assert good == [
        "4471 customer: Where is my parcel? | agent: Let me look.\nOne moment. | customer: Thank you -> 'late_parcel'",
        "4472 customer: I want my money back, it is 5 < 6 -> no label",
    ]
    assert rejects == [] and reader.form.startswith("an Intercom export")
    assert "internal notes of Intercom are not read (1)" in list(reader.unread.sentences())


def test_rasa_nlu() -> None:
    reader = Reader(SAMPLES / "rasa.yml", SCHEMA)
    good, rejects = shown(reader)
    assert good == [
        "customer: where is my parcel -> 'late_parcel'",
        "customer: my order from Berlin is late -> 'late_parcel'",
        "customer: did order 4711 leave -> 'late_parcel'",
        "customer: give my money back -> 'refund'",
        "customer: I want a refund -> 'refund'",
    ]
    assert rejects == []
    assert set(reader.unread.sentences()) == {
        "key `metadata` is not read (1 with something in it)",
        "Rasa's sections `synonym` are not read (1)",
        "Rasa's sections `lookup` are not read (1)",
    }


def test_dialogflow_intents_and_the_phrases_of_one() -> None:
    good, rejects = shown(Reader(SAMPLES / "dialogflow_intents.json", SCHEMA))
    assert good == [
        "customer: where is my parcel -> 'late_parcel'",
        "customer: give my money back -> 'refund'",
    ]
    assert [line for line, _ in rejects] == [3]
    phrases = SAMPLES / "late_parcel_usersays_en.json"
    good, rejects = shown(Reader(phrases, SCHEMA))
    assert (good, len(rejects)) == (["customer: where is my parcel -> 'late_parcel'"], 1)
    unnamed = Reader(phrases, SCHEMA, name="upload")
    assert shown(unnamed)[0] == ["customer: where is my parcel -> no label"]
    assert any("names the intent in the file's name" in one for one in unnamed.unread.sentences())


BAD_YAML = {
    "an alias": ("nlu: &a\n- intent: x\n  examples: *a\n", "alias on line 3"),
    "a key twice": ("version: '3'\nnlu: []\nnlu: []\n", "`nlu` twice"),
    "another file of Rasa's": ("version: '3'\nrules: []\n", "without Rasa's section"),
    "no YAML": ("version: '3'\nnlu: [\n", "not YAML on line"),
    "deep": ("nlu: " + "[" * 30_000, "YAML"),
    "not UTF-8": (b"version: '3'\nnlu: \xff\n", "not UTF-8"),
}


@pytest.mark.parametrize("case", BAD_YAML)
def test_yaml_that_cannot_be_trusted_is_refused(case: str, tmp_path: Path) -> None:
    content, reason = BAD_YAML[case]
    (tmp_path / "f").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(Unreadable, match=reason):
        list(Reader(tmp_path / "f", SCHEMA))


def test_what_is_wrong_with_a_rasa_entry_is_said_with_its_line(tmp_path: Path) -> None:
    lines = [
        "nlu:",
        "- intent: no",
        "  examples: |",
        "    - fine",
        "    oops",
        "- examples: x",
        "- intent: refund",
    ]
    (tmp_path / "f").write_text("\n".join(lines) + "\n")
    good, rejects = shown(Reader(tmp_path / "f", None))
    assert good == ["customer: fine -> 'no'"]
    assert rejects == [
        (5, "an example begins with `- `"),
        (6, "an entry of `nlu` without `intent`"),
        (7, "an intent without examples"),
    ]


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("<p>a</p><p>b &lt;c&gt;</p>", "a\nb <c>"),
        ("5 < 6 and 7 > 3", "5 < 6 and 7 > 3"),
        ("a<br/>b<!-- c -->", "a\nb"),
        ('<a href="x">here</a>', "here"),
    ],
)
def test_html_becomes_what_a_person_sees(markup: str, text: str) -> None:
    assert plain_text(markup) == text


@pytest.mark.parametrize("mark", ["<!--", "<!-- --", "<p ", "<a<", "< ", "<br ", "&#x"])
def test_a_megabyte_of_markup_that_never_ends_is_read_at_once(mark: str) -> None:
    began = time.thread_time()
    plain_text(mark * ((1 << 20) // len(mark)))
    assert time.thread_time() - began < 2


def test_comments_go_and_what_begins_like_one_stays() -> None:
    assert plain_text("a<!-- x <b> -->b<!---->c<!-->d-->e <!-- f") == "abce <!-- f"
