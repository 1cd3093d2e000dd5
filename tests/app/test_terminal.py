"""What people see: strangers' text does nothing, ids stay whole in 80 columns, any encoding holds the output."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.text import Text

from app.cli.client.table import details, table
from app.cli.terminal import Terminal
from evaluation.terminal import json_text

EVIL = "\x1b[2J\x9b1m\u202egnp :key: [red]"
IDS = ["6705ef94-d11e-42f9-84e1-13a1a2b3c4d5", "6b1e0d9a-2c3f-4b5a-9d8e-7f6a5b4c3d2e"]


def printed(*shown: Any, width: int = 200) -> str:
    out = io.StringIO()
    terminal = Terminal(out)
    terminal.width = width
    for one in shown:
        terminal.print(one, markup=False)
    return out.getvalue()


def test_strangers_text_acts_nowhere() -> None:
    rows = [{"id": IDS[0], "text": EVIL}]
    shown = printed(EVIL, Text(EVIL), details({"name": EVIL}), table(rows, {"id": "id", "text": "text"}))
    assert not any(mark in shown for mark in ("\x1b", "\x9b", "\u202e", "🔑"))
    assert shown.count(":key: [red]") == 4 and shown.count("␛[2J<U+009B>1m<U+202E>gnp") == 4


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_nothing_is_cut_however_narrow_the_terminal_is(width: int) -> None:
    row = {
        "id": IDS[0],
        "gate id": IDS[1],
        "state": "measuring",
        "verdict": "incomplete",
        "created": "2026-01-02 10:30:00Z",
    }
    columns = {name: name for name in row}
    shown = printed(table([row, row], columns), width=width)
    whole = shown if width >= 60 else "".join(shown.split())
    for value in row.values():
        assert ("".join(value.split()) if width < 60 else value) in whole
    assert "…" not in shown
    assert max(map(len, shown.split("\n"))) <= width


def test_json_for_programs_says_the_same_and_does_nothing_on_a_terminal() -> None:
    content = {"text": f"é 🎈 {EVIL}\u2028"}
    assert json.loads(json_text(content)) == content
    assert not any(mark in json_text(content) for mark in ("\x9b", "\u202e", "\u2028"))
    assert json.loads(json_text(content, indent=2)) == content


@pytest.mark.seconds
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_output_that_is_not_utf_8_holds_what_a_command_says(encoding: str, tmp_path: Path) -> None:
    file = tmp_path / "chats.csv"
    file.write_text("text,cat\u2013egory\nwo ist es \U0001f388,x\n", encoding="utf-8")
    for more in ([], ["--json"]):
        done = subprocess.run(
            [sys.executable, "-m", "app.cli.program", "check-file", str(file), *more],
            env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
        )
        assert done.returncode == 0, done.stderr
        if more:
            assert "cat\u2013egory" in json.loads(done.stdout)["not_read"][0]
        else:
            assert b"cat\\u2013egory" in done.stdout
