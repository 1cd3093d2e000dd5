"""What is read for a gate from the frozen conversations of a run."""

import json
from pathlib import Path

from app.gates.material import Room, read
from evaluation.contract.record import Conversation, Split
from tests.evaluation.shop import SCHEMA, conversations


def test_what_is_trained_for_comparison_learns_from_what_the_model_learned_from(tmp_path: Path) -> None:
    rows = [json.loads(c.model_dump_json(exclude_unset=True)) for c in conversations()]
    train, test = (next(row for row in rows if row["split"] == split) for split in ("train", "test"))
    train["messages"] = [{"role": "customer", "text": test["messages"][0]["text"].upper()}]
    snapshot = tmp_path / "snapshot.jsonl"
    snapshot.write_text("".join(json.dumps(row) + "\n" for row in rows))
    codes = tuple("ABCDEFGH")
    found = read(snapshot, SCHEMA, Room(codes, lambda texts: [len(text.split()) for text in texts], 4096))
    ids = {split: {c.id for c in found.inputs.splits[split]} for split in Split}
    assert train["id"] not in ids[Split.train] and len(ids[Split.train]) == 139
    assert test["id"] in ids[Split.test] and len(ids[Split.test]) == 140


def test_labels_of_today_count_and_what_was_learned_is_not_asked(tmp_path: Path) -> None:
    frozen = [c for c in conversations() if c.split is Split.train][:2]
    held = [c for c in conversations() if c.split is Split.test][:3]
    snapshot = tmp_path / "snapshot.jsonl"
    rows = [c.model_dump_json(exclude_unset=True) for c in (*frozen, *held[:1])]
    snapshot.write_text("".join(row + "\n" for row in rows))
    corrected = held[0].model_copy(update={"category": frozen[0].category, "criterion": None})
    bare = Conversation(id="bare", messages=held[2].messages, split=Split.test)
    copied = Conversation(
        id="copied", messages=frozen[1].messages, split=Split.test, category=frozen[1].category
    )
    moved = frozen[0].model_copy(update={"split": Split.test})
    room = Room(tuple("ABCDEFGH"), lambda texts: [len(text.split()) for text in texts], 4096)
    found = read(snapshot, SCHEMA, room, [corrected, held[1], bare, copied, moved])
    asked = found.inputs.splits[Split.test]
    assert [(c.id, c.category) for c in asked] == [
        (held[0].id, frozen[0].category),
        (held[1].id, held[1].category),
    ]
    assert [c.id for c in found.unlabelled] == ["bare"]
    assert {c.id for c in found.inputs.splits[Split.train]} == {c.id for c in frozen}
