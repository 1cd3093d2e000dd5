"""The modes side by side: each asked the same, with a cache of its own, and auto where the calibration split says."""

import json
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from app.errors import InputError
from app.settings import Settings
from app.studies import modes as study
from app.studies.modes import ModelAsked, ModesMeasured, ModesRequest
from evaluation.contract.record import Split
from tests.app.studies.quiet import QUIET
from tests.evaluation import models
from tests.evaluation.fake_server import Asked, FakeServer, Reply
from tests.evaluation.shop import SCHEMA, of_split


class Hasty(FakeServer):
    """Reads rightly when it may reason; at once it errs on what has few words, and is unsure of it."""

    def respond(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.model = hasty if body["max_tokens"] == 1 else models.oracle()
        return super().respond(body)


def is_short(asked: Asked) -> bool:
    return len(asked.customer.split()) < 5


def hasty(asked: Asked) -> Reply:
    right = models.oracle()(asked)
    if not is_short(asked):
        return right
    (code,) = right.probabilities
    other = next(option.code for option in asked.options if option.code != code)
    return Reply("", {other: 0.5, code: 0.4})


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    schema, conversations = tmp_path / "schema.json", tmp_path / "conversations.jsonl"
    schema.write_text(SCHEMA.model_dump_json())
    rows = [
        one.model_copy(update={"split": split}).model_dump(mode="json", exclude_unset=True)
        for split, source in ((Split.test, Split.test), (Split.calibration, Split.train))
        for one in of_split(source)
    ]
    conversations.write_text("\n".join(json.dumps(row) for row in rows))
    return schema, conversations


@pytest.mark.seconds
def test_auto_is_as_good_as_reasoning_for_fewer_tokens_where_fast_knows_what_it_does_not_know(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    asked = ModesRequest(*files, None, "starter", 480, 0)
    place = study.prepared(asked, Settings(home=tmp_path), QUIET)
    server = Hasty(models.oracle(), codes=place.codes)

    async def run() -> ModesMeasured:
        client = httpx.AsyncClient(transport=httpx.ASGITransport(server), base_url="http://model")
        model = ModelAsked(client, "base", place.codes, QUIET)
        return await study.compare(place, model)

    found = anyio.run(run)
    fast, reasoned, auto = (found.modes[name] for name in ("fast", "reasoned", "auto"))
    assert fast.answers == reasoned.answers == auto.answers == len(place.suite.items)
    assert (fast.asked_again.value, reasoned.asked_again.value) == (0.0, 1.0)
    share = auto.asked_again.value
    assert share is not None and 0.02 < share < 0.9
    assert reasoned.accuracy.value == 1.0 and fast.accuracy.value is not None and fast.accuracy.value < 0.95
    assert auto.accuracy.value == 1.0 and auto.over_best.value == 0.0
    assert fast.completion_tokens.value == 1
    assert auto.completion_tokens.value is not None and reasoned.completion_tokens.value is not None
    assert auto.completion_tokens.value < reasoned.completion_tokens.value
    assert auto.flip_accuracy.value is not None and fast.flip_accuracy.value is not None
    assert auto.flip_accuracy.value > fast.flip_accuracy.value
    assert found.threshold.value is not None and found.threshold.n == found.calibration_n
    salts = {body["cache_salt"] for body in server.bodies}
    assert len(salts) == 6  # both modes where they are tuned and where they are measured, and auto's two
    assert next(str(cell) for cell in study.table(found).columns[0].cells) == "answers a second"


def test_without_a_test_conversation_it_is_said_what_is_missing(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    schema, conversations = files
    kept = [line for line in conversations.read_text().splitlines() if '"test"' not in line]
    conversations.write_text("\n".join(kept))
    with pytest.raises(InputError, match="no labelled conversation of the split test"):
        study.prepared(
            ModesRequest(schema, conversations, None, "starter", 60, 0),
            Settings(home=tmp_path),
            QUIET,
        )
