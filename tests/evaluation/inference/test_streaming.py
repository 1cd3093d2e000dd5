"""An answer as it is written: nothing that was shown is ever taken back, and the end is what `predict` would give."""

import asyncio
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.contract.parse import parse, settled
from evaluation.contract.record import conversation_from_text
from evaluation.inference.predictor import Prediction, PredictorError, Sending
from tests.evaluation.fake_server import FakeServer, Reply, predictor, says
from tests.evaluation.shop import SCHEMA

TALK = conversation_from_text("please refund the lamp")
SAID = 'They write "refund the lamp", so "the customer wants money back for a purchase" decides.'
_PARTS = st.sampled_from(
    [
        "<think>",
        "</think>",
        "<",
        "<th",
        "\n",
        " ",
        "\nAnswer:",
        "Answer: A",
        "Answ",
        "so",
        "ering",
        "\t",
        ":",
        "A",
    ]
)


def streamed(server: FakeServer, **options: Any) -> tuple[list[str], Prediction]:
    async def gather() -> list[str | Prediction]:
        async with aclosing(predictor(server, **options).stream(SCHEMA, TALK)) as pieces:
            return [piece async for piece in pieces]

    *pieces, last = asyncio.run(gather())
    assert isinstance(last, Prediction)
    assert all(isinstance(piece, str) for piece in pieces)
    return [str(piece) for piece in pieces], last


@given(st.lists(_PARTS, max_size=12).map("".join), st.data())
def test_what_has_settled_is_the_beginning_of_what_settles_later_and_of_the_reasoning(
    text: str, data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, len(text)))
    second = data.draw(st.integers(first, len(text)))
    assert settled(text[:second]).startswith(settled(text[:first]))
    assert parse(text, SCHEMA, ("A", "B")).reasoning.startswith(settled(text[:second]))


def test_the_reasoning_comes_in_pieces_and_the_answer_is_the_one_that_would_come_at_once() -> None:
    server = FakeServer(lambda _: says("A", SAID))
    pieces, last = streamed(server)
    assert len(pieces) > 5
    assert "".join(pieces) == SAID == last.reasoning
    whole = asyncio.run(predictor(FakeServer(lambda _: says("A", SAID))).predict(SCHEMA, TALK))
    assert last.model_copy(update={"latency_s": 0}) == whole.model_copy(update={"latency_s": 0})
    (body,) = server.bodies
    assert body["stream_options"] == {"include_usage": True}


def test_a_stream_without_a_code_is_read_by_force_as_well() -> None:
    server = FakeServer(lambda _: Reply("Hard to say.", {"B": 0.7, "A": 0.2}))
    pieces, last = streamed(server)
    assert "".join(pieces) == "Hard to say."
    assert (last.category, last.forced_read) == ("tracking", True)
    assert [body.get("stream", False) for body in server.bodies] == [True, False]


def test_a_stream_that_breaks_off_is_no_answer() -> None:
    with pytest.raises(PredictorError, match="ended before"):
        streamed(FakeServer(lambda _: says("A", SAID), cut=4))


def test_a_refused_stream_names_its_status() -> None:
    with pytest.raises(PredictorError) as caught:
        streamed(FakeServer(lambda _: says("A"), failing=(503,)))
    assert caught.value.status == 503


def test_headers_go_with_every_request() -> None:
    server = FakeServer(lambda _: Reply("Hard to say.", {"B": 0.7}))
    asking = predictor(server, sending=Sending(headers={"traceparent": "00-a-b-01"}))
    asyncio.run(asking.predict(SCHEMA, TALK))
    assert [headers["traceparent"] for headers in server.headers] == ["00-a-b-01"] * 2
