"""Mode auto asks for reasoning where the code alone is unsure; reasons after a decision never change it."""

import asyncio
from typing import Any

import numpy as np
import pytest

from evaluation.contract.mode import Mode, ReasoningOrder
from evaluation.contract.record import conversation_from_text
from evaluation.inference.auto import AutoPredictor
from evaluation.inference.explaining import ExplainingPredictor
from evaluation.inference.predictor import Prediction
from evaluation.inference.runner import Measured, Outcome
from evaluation.metrics import auto_threshold
from evaluation.metrics.auto_threshold import LEAST_TO_FIT, is_sure
from evaluation.metrics.calibrator import Gold
from tests.evaluation.fake_server import CODES, FakeServer, Reply, predictor, says
from tests.evaluation.shop import SCHEMA

TALK = conversation_from_text("please refund the lamp")
REFUND, OTHER = SCHEMA.categories[0], SCHEMA.categories[1]
REASON = f'The customer says "refund the lamp". This fits A "{REFUND.definition}".'


class TwoMinds(FakeServer):
    """At once it says one thing, and when it is let write another. written: where it is to go on with."""

    def __init__(self, at_once: Reply, written: Reply):
        super().__init__(lambda _: at_once)
        self.written = written

    def respond(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        last = body["messages"][-1]
        if last["role"] == "assistant" and body["max_tokens"] == 1:
            return super().respond(body)
        model, self.model = self.model, lambda _: self.written
        given = last["content"] if last["role"] == "assistant" else ""
        try:
            status, answer = super().respond(body | {"continue_final_message": False})
        finally:
            self.model = model
        content = answer["choices"][0]["message"]["content"]
        answer["choices"][0]["message"]["content"] = content.removeprefix(given)
        return status, answer


def auto(server: FakeServer, threshold: float) -> AutoPredictor:
    return AutoPredictor(
        predictor(server, mode=Mode.fast), predictor(server), lambda found: is_sure(found, threshold)
    )


UNSURE = Reply("", {"A": 0.5, "B": 0.4})
DECIDED = Reply(f"{REASON}\nAnswer: B", {"B": 0.9})


def test_a_sure_answer_at_once_stands_and_costs_one_token() -> None:
    server = TwoMinds(UNSURE, DECIDED)
    found = asyncio.run(auto(server, 0.5).predict(SCHEMA, TALK))
    assert (found.category, found.mode, found.completion_tokens) == (REFUND.key, Mode.fast, 1)
    assert len(server.bodies) == 1


def test_an_unsure_one_is_asked_again_with_reasoning_and_costs_both() -> None:
    server = TwoMinds(UNSURE, DECIDED)
    found = asyncio.run(auto(server, 0.6).predict(SCHEMA, TALK))
    assert (found.category, found.mode, found.reasoning) == (OTHER.key, Mode.reasoned, REASON)
    alone = asyncio.run(predictor(TwoMinds(UNSURE, DECIDED)).predict(SCHEMA, TALK))
    assert found.completion_tokens == 1 + (alone.completion_tokens or 0)
    assert found.prompt_tokens == 100


def test_a_stream_shows_reasoning_only_where_there_is_some() -> None:
    async def pieces(threshold: float) -> list[str | Prediction]:
        return [piece async for piece in auto(TwoMinds(UNSURE, DECIDED), threshold).stream(SCHEMA, TALK)]

    (only,) = asyncio.run(pieces(0.5))
    assert isinstance(only, Prediction) and only.mode is Mode.fast
    *shown, last = asyncio.run(pieces(0.6))
    assert "".join(map(str, shown)) == REASON
    assert isinstance(last, Prediction) and (last.category, last.prompt_tokens) == (OTHER.key, 100)


@pytest.mark.parametrize(
    "at_once", [Reply("", {"A": 0.3}), Reply("", {})], ids=["mostly something else", "no code"]
)
def test_an_answer_that_is_hardly_one_never_stands(at_once: Reply) -> None:
    server = TwoMinds(at_once, DECIDED)
    if not at_once.probabilities:
        server.knows_token_ids = False
    assert asyncio.run(auto(server, 0.0).predict(SCHEMA, TALK)).mode is Mode.reasoned


# --------------------------------------------------------------------------------------------- reasons afterwards


def explained(server: FakeServer) -> Prediction:
    asked = predictor(server)
    asking = ExplainingPredictor(asked.client, "fake", CODES, mode=Mode.fast)
    return asyncio.run(asking.predict(SCHEMA, TALK))


def test_reasons_that_come_to_the_same_are_taken_as_they_are() -> None:
    server = TwoMinds(says("A"), Reply(f"{REASON}\nAnswer: A", {"A": 0.9}))
    found = explained(server)
    assert (found.category, found.reasoning, found.mode) == (REFUND.key, REASON, Mode.fast)
    assert found.reasoning_order is ReasoningOrder.after
    assert found.decided_by is not None and found.decided_by.text == REFUND.definition
    assert [one.quote for one in found.evidence or ()] == ["refund the lamp"]
    assert server.bodies[1]["messages"][-1]["content"] == 'The customer says "'
    assert len(server.bodies) == 2 and found.prompt_tokens == 100


def test_reasons_for_another_code_never_change_the_decision() -> None:
    """What they quote stays, and the condition is asked for that decided for the code that was answered."""
    server = TwoMinds(says("B"), Reply(f"{REASON}\nAnswer: A", {"A": 0.9}))
    found = explained(server)
    assert found.category == OTHER.key
    prefix = server.bodies[2]["messages"][-1]["content"]
    assert prefix == 'The customer says "refund the lamp". This fits B "'
    assert (found.reasoning or "").startswith(prefix)
    assert found.prompt_tokens == 150


def test_what_could_not_be_read_is_not_explained() -> None:
    server = TwoMinds(Reply("", {}), DECIDED)
    server.knows_token_ids = False
    assert explained(server).reasoning is None
    assert len(server.bodies) == 1


def test_reasons_in_mode_reasoned_came_before() -> None:
    found = asyncio.run(predictor(TwoMinds(UNSURE, DECIDED)).predict(SCHEMA, TALK))
    assert found.reasoning_order is ReasoningOrder.before


# -------------------------------------------------------------------------------------------------- the threshold


def answers(confidence_N: Any, right_N: Any, mode: Mode) -> list[Measured]:
    return [
        Measured(
            item=item,
            outcome=Outcome.scored,
            prediction=Prediction(
                category="right" if right else "wrong",
                mode=mode,
                reasoning=None,
                failure=None,
                evidence=None,
                decided_by=None,
                confidence=confidence,
                probabilities={"right" if right else "wrong": confidence, "other": 1 - confidence},
                label_mass=1.0,
                forced_read=False,
                prompt_tokens=1,
                completion_tokens=1,
                cached_tokens=0,
                latency_s=0.0,
            ),
        )
        for item, (confidence, right) in enumerate(zip(confidence_N, right_N, strict=True))
    ]


def fitted(n: int, below: float, fast_below: float, reasoned: float) -> auto_threshold.AutoThreshold:
    """Fast is right where it is surer than `below`, and in this share of the other cases; reasoned in that one."""
    rng = np.random.default_rng(0)
    confidence_N = rng.random(n)
    fast_N = (confidence_N > below) | (rng.random(n) < fast_below)
    golds = [Gold(str(i), "right") for i in range(n)]
    reasoned_N = rng.random(n) < reasoned
    return auto_threshold.fit(
        golds,
        answers(confidence_N, fast_N, Mode.fast),
        answers(confidence_N, reasoned_N, Mode.reasoned),
        None,
    )


def test_the_threshold_lies_where_reasoning_begins_to_help() -> None:
    found = fitted(400, below=0.4, fast_below=0.1, reasoned=0.9)
    assert found.value == pytest.approx(0.4, abs=0.08)
    assert found.asked_again.value == pytest.approx(0.4, abs=0.1)


def test_nothing_is_asked_again_where_reasoning_does_not_help() -> None:
    found = fitted(400, below=0.4, fast_below=0.6, reasoned=0.5)
    assert found.value is not None and found.value < 0.05


def test_everything_is_asked_again_where_only_reasoning_is_right() -> None:
    found = fitted(400, below=1.1, fast_below=0.3, reasoned=0.95)
    assert found.value is not None and found.value > 0.9
    assert found.auto.value == pytest.approx(found.reasoned.value, abs=0.03)


def test_too_few_answers_give_no_threshold_and_say_how_many_it_takes() -> None:
    found = fitted(LEAST_TO_FIT - 1, below=0.4, fast_below=0.1, reasoned=0.9)
    assert found.value is None and str(LEAST_TO_FIT) in (found.reason or "")


def drawn(rng: np.random.Generator, n: int, help_: float) -> tuple[Any, Any, Any]:
    """Confidences of n answers at once, as often right as they are sure (0.75), and which are right in either mode:
    half of those with reasoning are the same, and all of them are right more often by `help_`."""
    confidence_N = rng.beta(3, 1, n)
    fast_N = rng.random(n) < confidence_N
    reasoned_N = np.where(rng.random(n) < 0.5, fast_N, rng.random(n) < 0.75 + 2 * help_)
    return confidence_N, fast_N.astype(float), reasoned_N.astype(float)


@pytest.mark.seconds
@pytest.mark.parametrize("n", [LEAST_TO_FIT, 200, 300])
def test_on_other_answers_auto_is_on_average_within_a_hundredth_of_the_better_mode(n: int) -> None:
    for points in (0, 2, 5, 8, 12):
        rng = np.random.default_rng(points)
        confidence_M, fast_M, reasoned_M = drawn(rng, 100_000, points / 100)
        order_M = np.argsort(confidence_M)
        gained_M = np.append(0.0, np.cumsum((reasoned_M - fast_M)[order_M])) / len(order_M)
        found = [auto_threshold._cheapest(*drawn(rng, n, points / 100)) for _ in range(1000)]
        auto = fast_M.mean() + gained_M[np.searchsorted(confidence_M[order_M], found, side="right")]
        assert auto.mean() > max(fast_M.mean(), reasoned_M.mean()) - 0.01, points


def test_an_answer_that_is_lost_is_no_less_than_a_standard_error() -> None:
    """They are equal, whatever n is: rounding would decide."""
    for n in range(50, 60):
        sure_N, right_N = np.linspace(0.1, 0.9, n), np.ones(n)
        assert auto_threshold._cheapest(sure_N, right_N - (sure_N == sure_N[0]), right_N) == sure_N[0]
