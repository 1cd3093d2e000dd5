"""Conversations answered by a model folder: its confidences are those that its evaluation has calibrated."""

import io
import json
from pathlib import Path

import pytest

from app.cli.classify import (
    ClassifyRequest,
    FileQuestion,
    Trained,
    _ask,
    _warnings,
    read,
    read_untrained,
    show,
)
from app.cli.console import ConsoleReporter
from app.cli.terminal import Terminal
from app.errors import InputError
from app.runs.output import key_of
from app.serving import model_folder
from app.serving.adapters import CONFIG
from app.serving.base import STARTER, ModelBase, digest, find_base
from app.serving.model_folder import ModelNote
from app.serving.vllm import BASE_NAME, endpoint_at
from app.settings import Settings
from app.studies.untrained import write_adapter
from evaluation.contract.mode import Mode
from evaluation.contract.record import conversation_from_text
from evaluation.contract.schema import CategorySchema
from evaluation.metrics.calibrator import scaled
from tests.evaluation.fake_server import CODES, Reply
from tests.evaluation.shop import SCHEMA
from tests.factories.trained import reworded
from tests.servers.vllm import FakeVllm, listening, socket_path

RAW = {"refund": 0.9, "tracking": 0.1}
EDITED = reworded("The customer wants money back, whatever for.")


def asked(schema: CategorySchema, temperature: float | None) -> ClassifyRequest:
    note = ModelNote(
        model_version="0" * 64,
        base="starter",
        base_sha256="1",
        stage="rl",
        codes=CODES.texts[:7],
        schema_sha256=SCHEMA.sha256,
        verdict="passed",
        temperature=temperature,
    )
    said = [conversation_from_text("refund my lamp")]
    return ClassifyRequest(
        Trained(Path(), note), ModelBase("starter", Path()), CODES, schema, said, Mode.reasoned
    )


@pytest.mark.parametrize(
    ("schema", "temperature", "sure"),
    [(SCHEMA, 2.0, scaled(RAW, 2.0)["refund"]), (SCHEMA, None, 0.9), (EDITED, 2.0, 0.9)],
    ids=["calibrated", "nothing was fitted", "fitted under another schema"],
)
def test_confidences_are_calibrated_where_the_evaluation_was_of_this_schema(
    schema: CategorySchema, temperature: float | None, sure: float
) -> None:
    server = FakeVllm({BASE_NAME: lambda _: Reply("Because.\nAnswer: A", {"A": 0.9, "B": 0.1})})
    with socket_path() as path, listening(server, path) as url:
        (answered,) = _ask(endpoint_at(url), BASE_NAME, asked(schema, temperature))
    assert (answered.prediction.category, answered.prediction.confidence) == (
        "refund",
        pytest.approx(sure, abs=1e-6),
    )


def test_a_model_is_refused_whose_files_are_not_those_that_its_run_left(tmp_path: Path) -> None:
    base = find_base(STARTER)
    adapter = write_adapter(base, 8, tmp_path / "made")
    note = asked(SCHEMA, None).trained.note.model_copy(
        update={"model_version": key_of(digest(base), adapter.sha256), "base_sha256": digest(base)}
    )
    model, schema = tmp_path / "model", tmp_path / "schema.json"
    model_folder.write(model, note, adapter)
    schema.write_text(SCHEMA.model_dump_json(exclude_none=True), encoding="utf-8")
    question, settings = FileQuestion(schema, "refund my lamp", None), Settings(home=tmp_path)
    assert read(model, question, settings).trained == Trained(model, note)
    config = model / model_folder.ADAPTER / CONFIG
    config.write_text(config.read_text().replace('"lora_alpha": 16', '"lora_alpha": 160'))
    with pytest.raises(InputError, match="not what its run left there"):
        read(model, question, settings)


def test_without_a_label_the_base_answers_and_says_that_no_gate_has_examined_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "schema.json"
    file.write_text(SCHEMA.model_dump_json(exclude_none=True), encoding="utf-8")
    question = FileQuestion(file, "refund my lamp", None)
    untrained = read_untrained(STARTER, question, Settings(home=tmp_path), ConsoleReporter(io.StringIO()))
    assert untrained.gate == "none"
    assert "gate: none" in " ".join(_warnings(untrained))
    server = FakeVllm({BASE_NAME: lambda _: Reply("Because.\nAnswer: A", {"A": 0.9, "B": 0.1})})
    with socket_path() as path, listening(server, path) as url:
        answered = _ask(endpoint_at(url), BASE_NAME, untrained)
    show(answered, untrained, Terminal(), as_json=True)
    said = json.loads(capsys.readouterr().out)
    assert (said["category"], said["gate"], said["mode"]) == ("refund", "none", "reasoned")
