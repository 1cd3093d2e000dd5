"""The log is JSON, and what customers wrote or what opens a door is not in it."""

import json
import subprocess
import sys
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from app.auth import keys
from app.infra.logging import REMOVED, redact

SCRIPT = """
import logging, structlog
from app.infra.logging import configure
configure()
structlog.contextvars.bind_contextvars(request_id="r-1")
structlog.get_logger("ours").info("asked", messages=[{"text": "my card was charged twice"}], count=3)
logging.getLogger("theirs").warning("mail from %s", "ann@example.org")
logging.getLogger("alembic.runtime.migration").info("Context impl SQLiteImpl.")  # at every look at the version
try:
    raise ValueError("sw_abcdefghij_secretsecret_000000 is not right")
except ValueError:
    structlog.get_logger("ours").exception("failed")
"""


def cleaned(**event: Any) -> dict[str, Any]:
    return dict(redact(None, "info", event))


@pytest.mark.seconds
def test_every_line_is_json_with_the_ids_and_without_the_words() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    first, second, third = [json.loads(line) for line in done.stderr.splitlines()]
    assert (first["event"], first["request_id"], first["level"], first["count"]) == (
        "asked",
        "r-1",
        "info",
        3,
    )
    assert first["messages"] == REMOVED and first["timestamp"].endswith("Z")
    assert (second["event"], second["request_id"]) == (f"mail from {REMOVED}", "r-1")
    assert "ValueError" in third["exception"] and "Traceback" in third["exception"]
    assert "secretsecret" not in done.stderr and "charged twice" not in done.stderr


@pytest.mark.parametrize("name", ["text", "messages", "reasoning", "Authorization", "draft", "password"])
def test_fields_that_hold_words_or_secrets_are_removed_at_any_depth(name: str) -> None:
    assert cleaned(**{name: "hello"}) == {name: REMOVED}
    assert cleaned(job={"rows": [{name: "hello", "id": "7"}]}) == {
        "job": {"rows": [{name: REMOVED, "id": "7"}]}
    }


def test_an_api_key_is_cut_to_its_prefix() -> None:
    made = keys.generate()
    assert cleaned(detail=f"key {made.text}!")["detail"] == f"key sw_{made.prefix}_[removed]!"


def test_ids_times_and_numbers_stay() -> None:
    event = {
        "run_id": "0b6c8c5e-6f0e-4b53-8f0e-5e1f0d3d8a11",
        "at": "2026-01-02T03:04:05.678Z",
        "n": 4111111111111111,
    }
    assert cleaned(**event) == event


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("postgresql://app:hunter2@db/steerwise", "postgresql://app:[removed]@db/steerwise"),
        ("card 4111111111111111 refused", f"card {REMOVED} refused"),
        (
            "[SQL: INSERT]\n[parameters: ('my words',)]\n(more)",
            f"[SQL: INSERT]\n[parameters: {REMOVED}]\n(more)",
        ),
        ("duplicate key\nDETAIL:  Key (name)=(my words) exists.", f"duplicate key\nDETAIL:  {REMOVED}"),
    ],
)
def test_values_inside_messages_of_libraries_are_removed(said: str, kept: str) -> None:
    assert cleaned(error=said)["error"] == kept


def test_a_validation_error_does_not_carry_its_input_into_the_log() -> None:
    class Count(BaseModel):
        count: int

    with pytest.raises(ValidationError) as caught:
        Count.model_validate({"count": "my own words"})
    assert "my own words" in str(caught.value)
    assert "my own words" not in cleaned(error=str(caught.value))["error"]
    assert "my own words" not in cleaned(error=caught.value)["error"]
