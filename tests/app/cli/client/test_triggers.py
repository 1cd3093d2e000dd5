"""Triggers from the command line: made, shown, paused, started, and replayed without the API."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.cli.client.triggers import KINDS
from app.infra.tables.triggers import TriggerKind
from tests.app.cli.client.conftest import Installation, Shell, nobodys


def test_the_command_line_knows_every_kind() -> None:
    assert set(KINDS) == set(TriggerKind)


def test_a_trigger_is_made_shown_changed_paused_and_deleted(
    tenant: Shell, installation: Installation
) -> None:
    own = ["--schema", installation.told.schema.name, "--dataset", installation.told.dataset.name]
    made = tenant.json("triggers", "create", "moved", *own, "--on", "drift", "--threshold", "0.3")
    assert made["rule"] == {"kind": "drift", "window_h": 168, "min_answers": 200, "threshold": 0.3}
    assert made["budget"] == {"window_h": 168, "runs": 2, "gpu_s": None} and made["cool_down_h"] == 24
    changed = tenant.json("triggers", "change", "moved", "--window-h", "48", "--budget-runs", "5")
    assert changed["rule"] == {"kind": "drift", "window_h": 48, "min_answers": 200, "threshold": 0.3}
    assert changed["budget"]["runs"] == 5
    assert tenant.json("triggers", "pause", "moved")["paused"] is True
    assert "paused" in tenant.run("triggers", "show", "moved").stdout
    assert "resume it first" in tenant.run("triggers", "start", "moved", code=2).stderr
    assert tenant.json("triggers", "resume", "moved")["paused"] is False
    names = {
        one["name"] for one in tenant.json("triggers", "list", "--schema", installation.told.schema.name)
    }
    assert names == {"moved", installation.told.trigger.name}
    assert tenant.json("triggers", "delete", "moved") == {"deleted": made["id"]}
    weekly = tenant.json("triggers", "create", "weekly", *own, "--on", "schedule", "--cron", "0 3 * * 1")
    daily = tenant.json("triggers", "change", weekly["id"], "--every-days", "1")
    assert daily["rule"] == {"kind": "schedule", "cron": None, "every_days": 1}
    simulated = tenant.json("triggers", "simulate", "weekly", "--on", "corrections", "--count", "1")
    assert (simulated["starts"], simulated["events"]["labels"]) == ([], 1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--on", "drift", "--count", "3"], "takes no --count"),
        (["--on", "by_hand", "--threshold", "0.2"], "takes no --threshold"),
        (["--on", "schedule"], "--cron or --every-days"),
        (["--on", "corrections"], "--count"),
        (["--on", "weather"], "these are: by_hand"),
        (["--on", "schedule", "--cron", "0 3 * *"], "five fields"),
        ([], "--on by_hand|"),
    ],
)
def test_what_is_no_trigger_is_said_before_anything_is_read(
    tmp_path: Path, options: list[str], said: str
) -> None:
    nobody = Shell(nobodys(tmp_path))
    ended = nobody.run("triggers", "simulate", "--history", str(tmp_path / "nowhere"), *options, code=2)
    assert said in ended.stderr


def test_a_history_is_replayed_without_the_api(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    lines: list[dict[str, Any]] = [
        {"at": f"2026-03-{day:02}T00:00:00Z", "event": "correction", "conversation": f"c{day}"}
        for day in range(1, 10)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    nobody = Shell(nobodys(tmp_path))
    asked = ["triggers", "simulate", "--history", str(file), "--on", "corrections", "--count", "3"]
    found = nobody.json(*asked)
    assert [start["at"] for start in found["starts"]] == ["2026-03-03T00:00:00Z", "2026-03-06T00:00:00Z"]
    assert found["held_back"][0]["brake"] == "budget" and found["events"]["labels"] == 9
    shown = nobody.run(*asked, "--budget-runs", "9").stdout
    assert "would have started" in shown and "3 of 3 corrections" in shown
    file.write_text("{}\n")
    assert "line 1" in nobody.run(*asked, code=2).stderr
