"""A schema from a file to a published edit; nobody's change is lost on the way."""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.app.cli.client.conftest import Installation, Shell

SCHEMA: dict[str, Any] = {
    "name": "questions",
    "none_of_these": True,
    "categories": [
        {"key": "refund", "name": "Refund", "definition": "Wants money back."},
        {"key": "delivery", "name": "Delivery", "definition": "Asks where an order is."},
    ],
}


def file_of(folder: Path, content: Any = None, name: str = "schema.json") -> str:
    (folder / name).write_text(json.dumps(SCHEMA if content is None else content))
    return str(folder / name)


def editor(folder: Path, code: str) -> str:
    """An editor that changes the draft `d` by a line of Python."""
    program = folder / "editor.py"
    program.write_text(
        f"import json, sys\nd = json.load(open(sys.argv[1]))\n{code}\njson.dump(d, open(sys.argv[1], 'w'))\n"
    )
    return f"{sys.executable} {program}"


def test_a_schema_is_created_edited_published_compared_and_restored(tenant: Shell, tmp_path: Path) -> None:
    first = tenant.json("schemas", "create", file_of(tmp_path), "--publish")
    assert first["number"] == 1
    edit = editor(tmp_path, "d['categories'][0]['definition'] = 'Asks for a refund.'")
    second = tenant.within(EDITOR=edit, VISUAL="").json("schemas", "edit", "questions", "--publish")
    assert second["number"] == 2
    assert "Asks for a refund." in tenant.run("schemas", "diff", "questions").stdout
    assert tenant.json("schemas", "diff", "questions", "2", "1")["changed"][0]["key"] == "refund"
    tenant.run("schemas", "restore", "questions", "1")
    restored = tenant.json("schemas", "show", "questions")
    assert restored["content"]["categories"][0]["definition"] == "Wants money back."
    assert [found["number"] for found in tenant.json("schemas", "versions", "questions")] == [2, 1]
    assert "Asks for a refund." in tenant.run("schemas", "show", "questions", "--version", "2").stdout


def test_what_is_to_be_mended_is_named_by_category_and_field(tenant: Shell, tmp_path: Path) -> None:
    bad = {**SCHEMA, "categories": [{"key": "refund", "name": "Refund", "definition": ""}]}
    shown = tenant.run("schemas", "create", file_of(tmp_path, bad)).stdout
    assert "category 'refund', definition" in shown
    refused = tenant.run("schemas", "publish", "questions", code=2).stderr
    assert "category 'refund', definition" in refused
    assert "steerwise schemas edit" in refused


def test_a_stale_edit_is_refused_and_its_text_is_kept(tenant: Shell, tmp_path: Path) -> None:
    tenant.run("schemas", "create", file_of(tmp_path))
    old = tenant.json("schemas", "show", "questions")["revision"]
    tenant.run(
        "schemas", "edit", "questions", "--file", file_of(tmp_path, {**SCHEMA, "none_of_these": False})
    )
    refused = tenant.run(
        "schemas", "edit", "questions", "--file", file_of(tmp_path), "--revision", str(old), code=2
    )
    assert "somebody else changed it" in refused.stderr
    assert str(tmp_path / "schema.json") in refused.stderr
    assert tenant.json("schemas", "show", "questions")["content"]["none_of_these"] is False


def test_an_editor_that_fails_or_writes_no_json_changes_nothing(
    tenant: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    tenant.run("schemas", "create", file_of(tmp_path))
    for command, said in (
        ("false", "exit code 1"),
        (f"{sys.executable} -c \"import sys; open(sys.argv[1], 'w').write('oops')\"", "not JSON"),
        ("no-such-editor", "set EDITOR"),
    ):
        assert said in tenant.within(VISUAL=command).run("schemas", "edit", "questions", code=2).stderr
    assert tenant.json("schemas", "show", "questions")["revision"] == 1
    assert len(list(tmp_path.glob("steerwise-schema-*"))) == 2  # what somebody has typed is kept


def test_an_editor_that_changes_nothing_sends_nothing(tenant: Shell, tmp_path: Path) -> None:
    tenant.run("schemas", "create", file_of(tmp_path))
    assert "nothing was changed" in tenant.within(VISUAL="true").run("schemas", "edit", "questions").stdout


def test_names_that_are_not_there_and_files_that_are_none_end_with_2(tenant: Shell, tmp_path: Path) -> None:
    assert "no schema called 'nothing'" in tenant.run("schemas", "show", "nothing", code=2).stderr
    assert "cannot be read" in tenant.run("schemas", "create", str(tmp_path / "none.json"), code=2).stderr
    unknown = "00000000-0000-4000-8000-000000000000"
    assert "not_found" in tenant.run("schemas", "show", unknown, code=2).stderr


def test_what_is_served_is_shown(tenant: Shell, installation: Installation) -> None:
    found = tenant.json("schemas", "serving", "support")
    assert found["deployment"]["id"] == installation.deployment_id
    assert installation.deployment_id in tenant.run("schemas", "serving", "support").stdout
