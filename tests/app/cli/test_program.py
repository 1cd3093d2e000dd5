"""What the command line says, and with which exit code, when it is given something that it cannot use."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from app.cli.program import _session, cli
from app.errors import InputError
from app.serving.model_folder import ModelNote, read

pytestmark = pytest.mark.seconds

ROOT = Path(__file__).parents[3]


def steerwise(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    argv = [sys.executable, "-m", "app.cli.program", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=110, check=False)


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    heavy = "('torch', 'sklearn', 'vllm', 'transformers')"
    code = f"import sys, app.cli.program; sys.exit(any(m in sys.modules for m in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
    shown = CliRunner().invoke(cli, ["--help"])
    assert shown.exit_code == 0
    for command in ("run", "classify", "demo", "bench"):
        assert command in shown.stdout


def test_bad_input_ends_with_2_names_the_line_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text(
        json.dumps({"categories": [{"key": "a", "name": "A", "definition": ""}]})
    )
    ended = steerwise(
        "run", "--schema", str(tmp_path / "schema.json"), "--conversations", str(tmp_path / "c.jsonl"),
        "--out", str(tmp_path / "out"),
    )  # fmt: skip
    assert ended.returncode == 2, ended.stderr
    assert "category 'a', definition: is empty" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["schema.json"]


def test_a_wrong_option_ends_with_2() -> None:
    assert steerwise("run", "--colour", "red").returncode == 2


def test_classify_needs_a_model_and_says_so(tmp_path: Path) -> None:
    ended = steerwise("classify", "--model", str(tmp_path), "--schema", "s.json", "--text", "hello")
    assert ended.returncode == 2
    assert "holds no model.json" in ended.stderr


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (InputError("bad", ["line 3: worse"]), 2, "line 3: worse"),
        (KeyboardInterrupt(), 130, "To go on: steerwise"),
        (OSError(28, "No space left on device", "file"), 2, "the disk is full"),
    ],
)
def test_every_ending_has_its_code_and_message(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as caught, _session():
        raise error
    assert caught.value.exit_code == code
    assert said in capsys.readouterr().err


def test_our_own_mistakes_are_not_dressed_up() -> None:
    with pytest.raises(ZeroDivisionError), _session():
        raise ZeroDivisionError


def test_a_models_note_that_was_changed_by_hand_is_refused(tmp_path: Path) -> None:
    note = ModelNote(
        model_version="0" * 64,
        base="starter",
        base_sha256="1",
        stage="rl",
        codes=("A",),
        schema_sha256="2",
        verdict="passed",
    )  # fmt: skip
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model.json").write_text(note.model_dump_json())
    assert read(tmp_path) == (tmp_path / "model", note)
    assert read(tmp_path / "model")[1] == note
    (tmp_path / "model/model.json").write_text(note.model_dump_json().replace('"rl"', "7"))
    with pytest.raises(InputError, match="cannot be used"):
        read(tmp_path)
