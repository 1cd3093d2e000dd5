"""What is read for a gate from the frozen conversations of a run."""

import json
from pathlib import Path

from app.gates.material import Room, read
from evaluation.contract.record import Split
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
