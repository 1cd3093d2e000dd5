"""`steerwise answers` against the real API: what is kept is listed, taken out, judged and forgotten."""

import json
from pathlib import Path

from tests.app.cli.client.conftest import Installation, Shell


def test_kept_answers_are_listed_exported_judged_and_forgotten(
    installation: Installation, tenant: Shell, tmp_path: Path
) -> None:
    """Every story has one kept answer."""
    (kept,) = tenant.json("answers", "list")
    assert kept["id"] == str(installation.told.answer.id)
    assert tenant.json("answers", "list", "--category", "refund", "--schema", "support") == []
    assert "Where is my parcel?" in tenant.run("answers", "show", kept["id"]).stdout
    for name in ("kept.jsonl", "kept.csv"):
        tenant.run("answers", "export", str(tmp_path / name))
    assert [json.loads(line) for line in (tmp_path / "kept.jsonl").read_text().splitlines()] == [kept]
    assert kept["id"] in (tmp_path / "kept.csv").read_text()
    told = tenant.json("answers", "feedback", kept["id"], "refund", "--reviewer")
    assert (told["feedback"]["category_key"], told["feedback"]["source"]) == ("refund", "reviewer")
    (label,) = tenant.json("conversations", "list", "feedback")
    assert label["label"]["category_key"] == "refund"
    assert "wrong; right is refund" in tenant.run("answers", "show", kept["id"]).stdout
    gone = tenant.json("answers", "forget", "--customer", "nobody")
    assert (gone["answers"], gone["conversations"]) == (0, [])


def test_what_is_asked_without_sense_is_refused_before_anything_is_sent(
    installation: Installation, tenant: Shell, tmp_path: Path
) -> None:
    identity = str(installation.told.answer.id)
    for arguments in (
        ("export", str(tmp_path / "kept.xlsx")),
        ("feedback", identity),
        ("feedback", identity, "refund", "--right"),
        ("forget",),
    ):
        tenant.run("answers", *arguments, code=2)
    assert list(tmp_path.glob("kept*")) == []


def test_a_tenant_says_for_how_many_days_answers_are_kept(
    installation: Installation, platform: Shell
) -> None:
    name = installation.told.tenant.name
    assert platform.json("tenants", "change", name, "--keep-answers", "30")["keep_answers_days"] == 30
    assert platform.json("tenants", "change", name, "--keep-answers", "0")["keep_answers_days"] is None
