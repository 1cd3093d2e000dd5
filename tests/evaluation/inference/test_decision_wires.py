"""Servers of typed decisions as predictors: what they are asked, and how their answers are read."""

import json
from typing import Any

import httpx
import pytest

from evaluation.contract.mode import Mode
from evaluation.contract.parse import ParseFailure
from evaluation.contract.record import Conversation, Message, Role, conversation_from_text
from evaluation.contract.schema import Category, CategorySchema
from evaluation.inference.decision_wires import QUESTION, Wire, WirePredictor
from evaluation.inference.http import Retries
from evaluation.inference.predictor import PredictorError, Sending
from tests.evaluation.fake_server import Asked, Reply
from tests.evaluation.wire_server import WireServer

pytestmark = pytest.mark.anyio
SCHEMA = CategorySchema(
    none_of_these=True,
    categories=(
        Category(key="refund", name="Refund", definition="Wants money back", includes=("Paid twice",)),
        Category(key="late", name="Late", definition="Asks where it is.", excludes=("It is lost.",)),
    ),
)
TEXT = conversation_from_text("Where is it?")
TURNS = Conversation(
    id="1",
    messages=(
        Message(role=Role.agent, text="Hello"),
        Message(role=Role.customer, text="Where is it?"),
        Message(role=Role.agent, text="On its way."),
    ),
)


def second(asked: Asked) -> Reply:
    return Reply("", {asked.options[1].code: 0.7, asked.options[0].code: 0.2})


def predictor(server: Any, wire: Wire) -> WirePredictor:
    def respond(request: httpx.Request) -> httpx.Response:
        assert request.url.path == f"/v1/{wire}"
        status, answer = server.respond(json.loads(request.content))
        return httpx.Response(status, json=answer)

    client = httpx.AsyncClient(transport=httpx.MockTransport(respond), base_url="http://decisions")
    return WirePredictor(client, "fake", wire, Sending(Retries(attempts=1)))


@pytest.mark.parametrize("wire", Wire)
async def test_a_schema_is_one_question_and_every_answer_of_it_an_option(wire: Wire) -> None:
    server = WireServer(second)
    found = await predictor(server, wire).predict(SCHEMA, TEXT)
    assert (found.category, found.mode, found.failure) == ("late", Mode.fast, None)
    assert found.probabilities == pytest.approx(
        {"refund": 0.2 + 0.1 / 3, "late": 0.7 + 0.1 / 3, None: 0.1 / 3}
    )
    assert found.confidence == pytest.approx(0.7 + 0.1 / 3)
    assert (found.prompt_tokens, found.completion_tokens) == (9, 1)
    assert found.cached_tokens == (3 if wire is Wire.decisions else None)
    (body,) = server.bodies
    options = {
        "Refund": "Wants money back. Includes: Paid twice.",
        "Late": "Asks where it is. Excludes: It is lost.",
        "none of these": "No other option applies.",
    }
    if wire is Wire.systemone:
        question: Any = {"type": "choice", "instructions": QUESTION, "criteria": options}
        assert body == {"model": "fake", "state": "Where is it?", "questions": {"category": question}}
    else:
        choices = [{"value": name, "description": said} for name, said in options.items()]
        question = {"type": "choice", "name": "category", "instructions": QUESTION, "choices": choices}
        turns = [{"role": "user", "content": "Where is it?"}]
        assert body == {"model": "fake", "input": turns, "questions": [question]}


async def test_a_conversation_is_shown_up_to_the_last_message_of_its_customer() -> None:
    server = WireServer(second)
    for wire in Wire:
        await predictor(server, wire).predict(SCHEMA.model_copy(update={"question": "Which?"}), TURNS)
    system_one, decisions = server.bodies
    assert system_one["state"] == [
        {"role": "agent", "text": "Hello"},
        {"role": "customer", "text": "Where is it?"},
    ]
    assert decisions["input"] == [
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Where is it?"},
    ]
    assert system_one["questions"]["category"]["instructions"] == "Which?"


async def test_a_category_that_is_called_none_of_these_is_not_taken_for_it() -> None:
    named = SCHEMA.categories[0].model_copy(update={"name": "none of these"})
    schema = SCHEMA.model_copy(update={"categories": (named, SCHEMA.categories[1])})
    for wire in Wire:
        server = WireServer(lambda asked: Reply("", {asked.options[0].code: 0.9}))
        await predictor(server, wire).predict(schema, TEXT)
        shown = json.dumps(server.bodies)
        assert "none of these of the others" in shown and "Wants money back" in shown


@pytest.mark.parametrize("wire", Wire)
@pytest.mark.parametrize(
    "usage",
    [
        {"input_tokens": 12.7, "output_tokens": -1, "input_tokens_details": 3},
        {"input_tokens": "many", "output_tokens": True, "input_tokens_details": {"cached_tokens": 10**30}},
        [1],
        "much",
        None,
    ],
)
async def test_a_strange_count_of_tokens_spoils_no_answer(wire: Wire, usage: Any) -> None:
    class Miscounting(WireServer):
        def respond(self, body: Any) -> tuple[int, Any]:
            status, answer = super().respond(body)
            return status, answer | {"usage": usage}

    found = await predictor(Miscounting(second), wire).predict(SCHEMA, TEXT)
    assert found.category == "late"
    assert (found.prompt_tokens, found.completion_tokens, found.cached_tokens) == (None, None, None)


async def test_a_body_that_is_not_packed_as_it_says_is_one_answer_less() -> None:
    def respond(_: httpx.Request) -> httpx.Response:
        body = httpx.ByteStream(b"not gzip")
        return httpx.Response(200, stream=body, headers={"Content-Encoding": "gzip"})

    client = httpx.AsyncClient(transport=httpx.MockTransport(respond), base_url="http://decisions")
    with pytest.raises(PredictorError, match="response cannot be read"):
        await WirePredictor(client, "fake", Wire.systemone).predict(SCHEMA, TEXT)


async def test_a_refusal_is_the_models_and_a_broken_answer_the_servers() -> None:
    refused = await predictor(WireServer(second, refusing=True), Wire.decisions).predict(SCHEMA, TEXT)
    assert (refused.category, refused.failure, refused.probabilities) == (None, ParseFailure.no_label, None)
    broken: list[Any] = [
        {"Refund": 1.0},
        {"Refund": 1, "Late": "much", "none of these": 0},
        {"Refund": 10**400, "Late": 0, "none of these": 0},
        [],
        None,
    ]
    for probabilities in broken:

        class Broken:
            def respond(self, body: Any, shares: Any = probabilities) -> tuple[int, Any]:
                return 200, {"answers": {"category": {"probabilities": shares}}}

        with pytest.raises(PredictorError, match="wire systemone"):
            await predictor(Broken(), Wire.systemone).predict(SCHEMA, TEXT)
