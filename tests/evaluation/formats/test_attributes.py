"""What is known of a conversation beside its messages: read from every form, and never a reason to lose a row."""

import json
from pathlib import Path

from evaluation.contract.record import Conversation
from evaluation.formats.reader import Reader
from evaluation.formats.redaction import Redaction
from tests.evaluation.formats.reading import SCHEMA, read

KNOWN = {"language": "de", "channel": "chat", "customer_reference": "c-1", "metadata": {"total": 49.9}}


def only(path: Path) -> Conversation:
    (found,) = Reader(path, SCHEMA)
    assert isinstance(found, Conversation)
    return found


def test_of_an_object_they_are_read_and_of_a_dump_they_are_no_part(tmp_path: Path) -> None:
    row = {"text": "where is my parcel", "time": "2026-01-02T10:30:00+01:00", **KNOWN}
    found = read(tmp_path, json.dumps(row))
    assert found.rejects == [] and found.lost == []
    conversation = only(tmp_path / "file")
    assert {name: getattr(conversation, name) for name in KNOWN} == KNOWN
    assert conversation.time is not None and conversation.time.isoformat() == "2026-01-02T10:30:00+01:00"
    assert set(conversation.model_dump(exclude_unset=True)) == {"id", "messages"}


def test_one_that_cannot_be_used_is_left_out_and_counted_and_the_row_is_taken(tmp_path: Path) -> None:
    rows = [
        {"text": "where is it", "time": "10:32", "channel": "chat"},
        {"text": "my money", "time": "2026-01-02T10:30:00", "metadata": {"a": [1]}},
    ]
    found = read(tmp_path, "".join(json.dumps(row) + "\n" for row in rows))
    assert [text for text, _ in found.said] == ["where is it", "my money"] and found.rejects == []
    assert any(line.startswith("a `time` is left out") and "(2)" in line for line in found.lost)
    assert any(line.startswith("a `metadata` is left out") for line in found.lost)


def test_of_a_table_the_first_of_a_conversation_is_its_own(tmp_path: Path) -> None:
    table = (
        "id,role,text,channel,time\n"
        "1,user,where is it,chat,2026-01-02T10:30:00Z\n"
        "1,assistant,one moment,mail,2026-01-02T10:31:00Z\n"
        "1,user,thanks,,\n"
    )
    found = read(tmp_path, table)
    assert found.rejects == []
    assert found.lost == ["of several `channel` in one conversation only the first is kept (1)"]
    conversation = only(tmp_path / "file")
    assert conversation.channel == "chat" and conversation.time is not None
    assert conversation.time.isoformat() == "2026-01-02T10:30:00+00:00"
    assert [message.role.value for message in conversation.messages] == ["customer", "agent", "customer"]


def test_personal_data_in_metadata_is_taken_out_as_in_messages(tmp_path: Path) -> None:
    row = {"text": "write to ann@shop.example", "metadata": {"mail": "ann@shop.example", "n": 1}}
    (tmp_path / "file").write_text(json.dumps(row))
    (found,) = Reader(tmp_path / "file", SCHEMA, redaction=Redaction.by_form)
    assert isinstance(found, Conversation)
    assert found.metadata == {"mail": "[email]", "n": 1} and found.said == ("write to [email]",)
