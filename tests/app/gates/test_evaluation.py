"""What an evaluation asks, from the files that a person hands in."""

import json
from pathlib import Path

import pytest

from app.cli.files import read_inputs
from app.errors import InputError
from app.gates import evaluation
from app.runs.presets import Benchmark
from evaluation.contract.record import Split
from evaluation.contract.schema import CategorySchema
from tests.evaluation.shop import SCHEMA, conversations


def handed_in(folder: Path, reworded: CategorySchema) -> tuple[Path, Path, list[Path]]:
    rows = b"".join(c.model_dump_json(exclude_unset=True).encode() + b"\n" for c in conversations())
    paths = folder / "schema.json", folder / "conversations.jsonl", folder / "reworded.json"
    for path, content in zip(
        paths, (SCHEMA.model_dump_json(), rows.decode(), reworded.model_dump_json()), strict=True
    ):
        path.write_text(content)
    return paths[0], paths[1], [paths[2]]


def test_a_rewording_is_asked_and_changes_what_the_report_is_of(tmp_path: Path) -> None:
    schema, rows, reworded = handed_in(tmp_path, SCHEMA)
    without = evaluation.suite_of(read_inputs(schema, rows), Benchmark(max_items=600))
    suite = evaluation.suite_of(read_inputs(schema, rows, reworded), Benchmark(max_items=600))
    assert "reword" in without.left_out and "reword" not in suite.left_out
    assert [p.detail for p in suite.perturbations if p.family == "reword"] == ["reworded.json"]
    assert suite.sha256 != without.sha256


def test_a_rewording_of_another_schema_is_refused_by_name(tmp_path: Path) -> None:
    fewer = SCHEMA.model_copy(update={"categories": SCHEMA.categories[1:]})
    inputs = read_inputs(*handed_in(tmp_path, fewer))
    with pytest.raises(InputError, match=r"reworded\.json does not have the same categories: refund"):
        evaluation.suite_of(inputs, Benchmark())
    (tmp_path / "reworded.json").write_text(json.dumps({"categories": []}))
    with pytest.raises(InputError, match=r"reworded\.json cannot be used"):
        read_inputs(tmp_path / "schema.json", tmp_path / "conversations.jsonl", [tmp_path / "reworded.json"])


def test_what_is_asked_beside_the_suite_is_a_share_of_it(tmp_path: Path) -> None:
    schema, rows, _ = handed_in(tmp_path, SCHEMA)
    inputs = read_inputs(schema, rows)
    inputs = inputs._replace(splits={**inputs.splits, Split.calibration: inputs.splits[Split.train]})
    settings = Benchmark(max_items=400)
    auxiliary_suites = evaluation.auxiliary_suites_of(evaluation.suite_of(inputs, settings), inputs, settings)
    asked = (
        len(auxiliary_suites.injection.items),
        len(auxiliary_suites.out_of_distribution.items),
        len(auxiliary_suites.calibration.conversations),
    )
    assert asked == (100, 50, 100)
    assert not auxiliary_suites.turns.items, "the shop's conversations are of one message"


def test_what_the_suite_leaves_of_the_held_out_is_calibrated_on(tmp_path: Path) -> None:
    """Many files name no calibration split, and no conversation may be in both."""
    schema, rows, _ = handed_in(tmp_path, SCHEMA)
    inputs, settings = read_inputs(schema, rows), Benchmark(max_items=200)
    assert not inputs.splits[Split.calibration]
    suite = evaluation.suite_of(inputs, settings)
    conversations = evaluation.auxiliary_suites_of(suite, inputs, settings).calibration.conversations
    assert len(conversations) == 50 and {c.split for c in conversations} == {Split.test}
    assert not suite.conversations.keys() & {c.id for c in conversations}
