"""What a run says of the file that it was given: what nobody reads, what contradicts itself, and where copies go."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.cli.files import read_inputs
from app.errors import InputError
from app.runs.inputs import checked, placed
from evaluation.contract.record import Conversation, Split
from evaluation.contract.schema import parse_schema

SCHEMA: dict[str, Any] = {
    "categories": [
        {"key": "refund", "name": "Refund", "definition": "Wants money back."},
        {"key": "delivery", "name": "Delivery", "definition": "Asks where an order is."},
    ]
}


def row(identity: str, category: str = "refund", text: str = "give it back", **more: Any) -> dict[str, Any]:
    return {"id": identity, "category": category, "messages": [{"role": "customer", "text": text}], **more}


def rows_of(split: str, count: int) -> list[dict[str, Any]]:
    keys = ("refund", "delivery")
    return [row(f"c{split}{i}", keys[i % 2], f"message {split} {i}", split=split) for i in range(count)]


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in rows)


def written(folder: Path, content: bytes) -> tuple[Path, Path]:
    (folder / "schema.json").write_text(json.dumps(SCHEMA))
    (folder / "conversations").write_bytes(content)
    return folder / "schema.json", folder / "conversations"


def test_what_nobody_reads_is_a_notice_and_the_reason_where_no_label_is_found(tmp_path: Path) -> None:
    rows = rows_of("train", 30) + rows_of("test", 20)
    for one in rows:
        one["notes"] = "for us"
    inputs = read_inputs(*written(tmp_path, jsonl(rows)))
    assert inputs.notices[-1] == "key `notes` is not read (50 with something in it)"
    table = "text,intent\n" + "where is it,delivery\n" * 60
    with pytest.raises(InputError) as caught:
        read_inputs(*written(tmp_path, table.encode()))
    assert any("column `intent` is not read (60" in detail for detail in caught.value.details)


def test_the_same_text_with_two_labels_is_said_and_not_asked() -> None:
    rows = [*rows_of("train", 30), *rows_of("test", 24)]
    for number in (30, 31, 2):
        rows[number]["messages"][0]["text"] = "May I  ask?"
    rows[2]["category"], rows[30]["category"], rows[31]["category"] = "refund", "refund", "delivery"
    inputs = checked(parse_schema(SCHEMA), [Conversation.model_validate(r) for r in rows])
    assert len(inputs.splits[Split.test]) == 22
    assert "ctest0" not in {c.id for c in inputs.splits[Split.test]}
    assert inputs.notices[0] == (
        "1 texts have several labels (3 conversations), such as 'May I ask?' "
        "(ids 'ctrain2', 'ctest0', 'ctest1': refund and delivery); 2 of them are held out and not asked"
    )


def test_copies_without_a_split_stand_on_one_side_and_a_new_row_moves_none() -> None:
    rows = [row(f"c{i}", ("refund", "delivery")[i % 2], f"{'where' * (i // 2)} is it") for i in range(200)]
    before = placed([Conversation.model_validate(r) for r in rows])
    after = placed([Conversation.model_validate(r) for r in [row("new", text="newest of all"), *rows]])
    for split in Split:
        assert {c.id for c in before[split]} <= {c.id for c in after[split]}
        assert all(sum(c.said == one.said for c in before[split]) == 2 for one in before[split])
