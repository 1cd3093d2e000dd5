"""`steerwise classify` asks what is deployed; with --model it still asks a model on this disk."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.app.classify.serving_contexts import SAID, TEXT, model_server
from tests.app.cli.client.conftest import Shell
from tests.servers.s3 import serving


@pytest.fixture
def model_urls() -> Iterator[tuple[str, ...]]:
    with serving(model_server()) as url:
        yield (url,)


def test_one_message_is_answered_by_what_is_deployed(tenant: Shell) -> None:
    found = tenant.json("classify", "--schema", "support", "--text", TEXT)
    assert (found["category"], found["schema_version"]) == ("delivery", 1)
    shown = tenant.run("classify", "--schema", "support", "--text", TEXT).stdout
    assert SAID in shown
    assert "answer:    delivery  (" in shown


def test_many_conversations_are_answered_line_by_line(tenant: Shell, tmp_path: Path) -> None:
    rows = [{"id": str(i), "messages": [{"role": "customer", "text": TEXT}]} for i in range(3)]
    (tmp_path / "many.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    found = tenant.lines("classify", "--schema", "support", "--conversation", str(tmp_path / "many.jsonl"))
    assert [(one["id"], one["answer"]["category"]) for one in found] == [
        (str(i), "delivery") for i in range(3)
    ]


def test_the_reasoning_is_shown_as_it_is_written(tenant: Shell) -> None:
    shown = tenant.run("classify", "--schema", "support", "--text", TEXT, "--stream").stdout
    assert SAID in shown
    assert "answer:    delivery" in shown
    events = tenant.lines("classify", "--schema", "support", "--text", TEXT, "--stream")
    assert "".join(event["text"] for event in events[:-1]).startswith("They write")
    assert (events[-1]["event"], events[-1]["category"]) == ("answer", "delivery")


def test_a_schema_without_a_model_is_refused_and_says_what_to_do(tenant: Shell, tmp_path: Path) -> None:
    (tmp_path / "new.json").write_text('{"name": "new", "categories": []}')
    tenant.run("schemas", "create", str(tmp_path / "new.json"))
    unready = tenant.run("classify", "--schema", "new", "--text", TEXT, code=2)
    assert "steerwise schemas edit" in unready.stderr
    tenant.run("tenants", "change", tenant.json("whoami")["key"]["tenant_id"], "--ungated", "off")
    for more in ((), ("--stream",)):
        refused = tenant.run("classify", "--schema", "new", "--text", TEXT, *more, code=2)
        assert "steerwise deployments create" in refused.stderr


def test_a_draft_is_answered_by_the_base_which_says_so(tenant: Shell) -> None:
    asked = ("classify", "--schema", "support", "--text", TEXT, "--version")
    found = tenant.json(*asked, "draft")
    assert (found["category"], found["gate"], found["deployment_id"]) == ("delivery", "none", None)
    shown = tenant.run(*asked, "draft").stdout
    assert "by:        what is not published, the base as it stands, no gate has examined it" in shown
    assert tenant.json(*asked, "1")["gate"] == "passed"
    assert "number of a published version" in tenant.run(*asked, "newest", code=2).stderr


def test_either_a_text_or_a_file_is_asked_about(tenant: Shell) -> None:
    assert "either --text or --conversation" in tenant.run("classify", "--schema", "support", code=2).stderr


def test_with_a_model_on_disk_the_api_is_not_asked(tenant: Shell, tmp_path: Path) -> None:
    arguments = ("classify", "--model", str(tmp_path), "--schema", "schema.json", "--text", TEXT)
    assert (
        "holds no model.json"
        in tenant.within(STEERWISE_URL="http://127.0.0.1:9").run(*arguments, code=2).stderr
    )
