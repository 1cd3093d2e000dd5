"""Every item ends once, as scored, unparsable or errored; a killed run goes on."""

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from evaluation.contract.record import Conversation
from evaluation.contract.schema import CategorySchema
from evaluation.inference import runner
from evaluation.inference.predictor import Prediction, PredictorError
from evaluation.inference.runner import Measured, Outcome, RunnerError
from tests.evaluation import models
from tests.evaluation.evaluation_run import suite
from tests.evaluation.fake_server import FakeServer, Reply, predictor, says

SUITE = suite(100)


def run(server: FakeServer, **options: Any) -> list[Measured]:
    return asyncio.run(runner.run(SUITE.questions, predictor(server), **{"model": "fake", **options}))


def test_there_is_one_outcome_for_each_item_in_order_and_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    measured = run(FakeServer(models.oracle()), progress=lambda done, total: told.append((done, total)))
    assert [m.item for m in measured] == list(range(len(SUITE.items)))
    assert {m.outcome for m in measured} == {Outcome.scored}
    assert told == [(n, len(SUITE.items)) for n in range(1, len(SUITE.items) + 1)]


def test_an_unparsable_answer_is_the_models_fault_and_a_failed_request_ours() -> None:
    server = FakeServer(lambda _: Reply("no"), knows_token_ids=False)
    assert {m.outcome for m in run(server)} == {Outcome.unparsable}
    refusing = FakeServer(models.oracle(), failing=(400,) * 5)
    outcomes = [m.outcome for m in run(refusing)]
    assert outcomes.count(Outcome.errored) == 5
    assert outcomes.count(Outcome.scored) == len(SUITE.items) - 5


def test_requests_that_share_a_schema_go_together() -> None:
    server = FakeServer(models.oracle())
    run(server, concurrency=1)
    systems = [body["messages"][0]["content"] for body in server.bodies]
    changes = sum(a != b for a, b in pairwise(systems))
    assert changes == len({item.perturbation for item in SUITE.items}) - 1


def test_a_killed_run_goes_on_and_asks_nothing_twice(tmp_path: Path) -> None:
    out = tmp_path / "run.jsonl"
    whole = run(FakeServer(models.oracle()), out=out)
    lines = out.read_text().splitlines(keepends=True)
    out.write_text("".join(lines[:31]) + lines[31][:20])  # killed within a write
    server = FakeServer(models.oracle())
    again = run(server, out=out)
    assert len(server.bodies) == len(SUITE.items) - 30
    assert [(m.item, _answer(m)) for m in again] == [(m.item, _answer(m)) for m in whole]
    assert len(out.read_text().splitlines()) == len(SUITE.items) + 1


def test_what_errored_is_tried_again_and_what_was_answered_is_not(tmp_path: Path) -> None:
    out = tmp_path / "run.jsonl"
    run(FakeServer(models.oracle(), failing=(400,) * 7), out=out)
    server = FakeServer(models.oracle())
    assert {m.outcome for m in run(server, out=out)} == {Outcome.scored}
    assert len(server.bodies) == 7
    idle = FakeServer(models.oracle())
    run(idle, out=out)
    assert idle.bodies == []


def test_the_outcomes_of_another_model_or_suite_are_not_taken_over(tmp_path: Path) -> None:
    out = tmp_path / "run.jsonl"
    run(FakeServer(models.oracle()), out=out)
    with pytest.raises(RunnerError, match="other questions or another model"):
        run(FakeServer(models.oracle()), out=out, model="other")


def test_a_file_of_something_else_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "notes.txt"
    out.write_text("my notes\n")
    with pytest.raises(RunnerError, match="not a file of outcomes"):
        run(FakeServer(models.oracle()), out=out)
    assert out.read_text() == "my notes\n"


def test_no_more_items_are_in_flight_than_allowed() -> None:
    class Counting:
        now = most = 0

        async def predict(self, schema: CategorySchema, conversation: Conversation) -> Prediction:
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.001)
            self.now -= 1
            raise PredictorError("busy")

    counting = Counting()
    asyncio.run(runner.run(SUITE.questions, counting, model="fake", concurrency=4))
    assert counting.most == 4


def test_a_fault_of_our_own_is_not_hidden_as_an_errored_item() -> None:
    class Broken:
        async def predict(self, schema: CategorySchema, conversation: Conversation) -> Prediction:
            raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(runner.run(SUITE.questions, Broken(), model="fake"))
    assert caught.value.subgroup(ZeroDivisionError)


def _answer(measured: Measured) -> tuple[str | None, str]:
    assert measured.prediction is not None
    return measured.prediction.category, measured.prediction.reasoning


def test_a_forced_answer_is_scored_and_counted_as_forced() -> None:
    server = FakeServer(lambda _: Reply("well", {"A": 0.9}, "length"))
    measured = run(server)
    assert {m.outcome for m in measured} == {Outcome.scored}
    assert all(m.prediction is not None and m.prediction.forced_read for m in measured)
    assert not any(m.prediction and m.prediction.forced_read for m in run(FakeServer(lambda _: says("A"))))
