"""OpenAI's Decisions wire, by its own client and by LangChain's: what is asked, what comes back, how it is refused."""

import json
from typing import Any

import openai
import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_openai.decisions import Choice, Level, Predicate, Score

from app.infra.db.session import transaction
from app.infra.tables.schemas import Schema
from tests.app.classify.serving_contexts import Live, deployed, set_tenant
from tests.app.decisions.clients import Clients
from tests.callers import Callers
from tests.evaluation.fake_server import FakeServer

pytestmark = pytest.mark.anyio
INPUT = "Where is my parcel? It was to come on monday."
PREDICATE: Any = {"type": "predicate", "name": "late", "instructions": "Is it late?"}
TEAMS = [
    {"value": "money", "description": "wants money back"},
    {"value": "parcels", "description": "a parcel"},
]
CHOICE: Any = {"type": "choice", "name": "team", "instructions": "Which team?", "choices": TEAMS}


async def test_answers_come_in_the_order_of_the_questions(clients: Clients, server: FakeServer) -> None:
    found = await clients.openai.decisions.create(
        model="steerwise",
        input=INPUT,
        questions=[
            PREDICATE,
            CHOICE,
            {
                "type": "score",
                "instructions": "How calm?",
                "levels": [{"label": "calm"}, {"label": "angry", "description": "where is my parcel"}],
            },
        ],
    )
    late, team, calm = found.answers
    assert late.type == "predicate" and late.name == "late" and 0 < late.probability < 1
    assert team.type == "choice" and (team.name, team.choice) == ("team", "parcels")
    assert [one.value for one in team.probabilities] == ["money", "parcels"]
    assert sum(one.probability for one in team.probabilities) == pytest.approx(1.0)
    assert calm.type == "score" and calm.name is None and 0.5 < calm.score < 1
    assert [(one.value, one.label) for one in calm.probabilities] == [(0, "calm"), (1, "angry")]
    used = found.usage
    assert (used.input_tokens, used.output_tokens, used.total_tokens) == (150, 3, 153)
    assert (used.input_tokens_details.cached_tokens, used.input_tokens_details.cache_write_tokens) == (96, 54)
    assert used.output_tokens_details.reasoning_tokens == 0


async def test_text_and_a_boolean_of_the_same_word_are_two_options(
    clients: Clients, server: FakeServer
) -> None:
    values: list[Any] = [{"value": "true"}, {"value": True}, {"value": False}]
    question: Any = {"type": "choice", "instructions": "Which?", "choices": values}
    found = await clients.openai.decisions.create(
        model="steerwise", input="it is false", questions=[question]
    )
    (answer,) = found.answers
    assert answer.type == "choice"
    assert [one.value for one in answer.probabilities] == ["true", True, False] and answer.choice is False
    (body,) = server.bodies
    assert body["messages"][0]["content"].count("name: true\n") == 1
    assert "name: true (2)\n" in body["messages"][0]["content"]


async def test_messages_calls_and_their_outputs_are_shown_in_their_order(
    clients: Clients, server: FakeServer
) -> None:
    items: list[Any] = [
        {"role": "developer", "content": "A shop."},
        {"role": "user", "content": [{"type": "input_text", "text": "Hello."}]},
        {"type": "function_call", "call_id": "1", "name": "find", "arguments": '{"order": 17}'},
        {"type": "function_call_output", "call_id": "1", "output": "shipped"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "It is shipped."}]},
        {"role": "user", "content": [{"type": "input_json", "data": {"when": None}}]},
    ]
    for given in (items, items[:-1]):
        await clients.openai.decisions.create(model="steerwise", input=given, questions=[PREDICATE])
    conversation, whole = (body["messages"][1]["content"] for body in server.bodies)
    assert conversation == (
        '<conversation>\nsystem: A shop.\ncustomer: Hello.\nagent: calls find: {"order": 17}\n'
        'agent: find gives: shipped\nagent: It is shipped.\ncustomer: {"when": null}\n</conversation>'
    )
    assert whole.endswith("assistant: find gives: shipped assistant: It is shipped.\n</conversation>")
    assert whole.startswith("<conversation>\ncustomer: developer: A shop. user: Hello.")


async def test_a_schema_is_asked_by_its_name_and_answered_by_its_deployment(
    clients: Clients, live: Live
) -> None:
    category, late = await _of_schema(clients, live)
    assert category.choice == "delivery"
    assert [one.value for one in category.probabilities] == ["refund", "delivery", "(none)"]
    assert [one.steerwise["gate"] for one in (category, late)] == ["passed", "none"]


async def test_below_the_tenants_threshold_a_schemas_question_is_refused(
    callers: Callers, clients: Clients, live: Live
) -> None:
    await set_tenant(callers, live, abstain_below=0.999)
    category, late = await _of_schema(clients, live)
    assert (category.type, category.name, late.type) == ("refusal", "category", "predicate")


async def _of_schema(clients: Clients, live: Live) -> list[Any]:
    question: Any = {
        "type": "choice",
        "name": "category",
        "instructions": "Which is it?",
        "choices": [{"value": "refund"}, {"value": "delivery"}],
    }
    found = await clients.openai.decisions.create(
        model=live.told.schema.name, input=INPUT, questions=[question, PREDICATE]
    )
    return list(found.answers)


async def test_langchains_client_asks_and_reads(clients: Clients, server: FakeServer) -> None:
    found = await clients.langchain.ainvoke(
        {
            "input": [HumanMessage("Where is my parcel?"), AIMessage("On its way.")],
            "questions": {
                "team": Choice(instructions="Which team?", choices={"parcels": "a parcel", "money": None}),
                "late": Predicate(instructions="Is it late?"),
                "anger": Score(instructions="How angry?", levels=["Calm", Level(label="Angry")]),
            },
        }
    )
    assert found.choices["team"].choice == "parcels"
    assert found.predicates["late"].probability < 1
    assert found.scores["anger"].legend == {0: "Calm", 1: "Angry"}
    assert (found.usage.input_tokens, found.usage.output_tokens) == (150, 3)
    assert "On its way." in server.bodies[0]["messages"][1]["content"]


# --------------------------------------------------------------------------------------------------------- refusals

_CHOICES_256 = [{"value": f"option {n}"} for n in range(256)]
BAD: dict[str, tuple[dict[str, Any], str, str | None]] = {
    "the 256th option": (
        {"questions": [CHOICE | {"choices": _CHOICES_256}]},
        "at most 255 items",
        "questions",
    ),
    "an option twice": (
        {"questions": [CHOICE | {"choices": [TEAMS[0]] * 2}]},
        "stands twice",
        "questions[0]",
    ),
    "a name twice": (
        {"questions": [PREDICATE, CHOICE, PREDICATE]},
        "'late' stands twice",
        "questions[2].name",
    ),
    "an empty state": ({"input": " "}, "is empty", "input"),
    "no messages": ({"input": []}, "is empty", "input"),
    "an unknown type": ({"questions": [{"type": "noul", "instructions": "?"}]}, "'predicate'", "questions"),
    "no type": ({"questions": [{"instructions": "?"}]}, "has no 'type'", "questions.0"),
    "nested too deeply": ({"input": ["", json.loads("[" * 40 + "]" * 40)]}, "levels deep", "input[1]"),
    "no choices": (
        {"questions": [{"type": "choice", "instructions": "Which?"}]},
        "Field required",
        "questions",
    ),
    "no instructions": ({"questions": [PREDICATE | {"instructions": " "}]}, "is empty", "questions[0]"),
    "no questions": ({"questions": []}, "at least 1 item", "questions"),
    "a state of 1 MB": ({"input": "word " * 200_000}, "1000000 characters", "input"),
    "ten thousand questions": ({"questions": [PREDICATE] * 10_000}, "50000 values", None),
    "an image": (
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]}]},
        "images are not read",
        "input[0].content[0]",
    ),
    "an output of no call": (
        {"input": [{"type": "function_call_output", "call_id": "7", "output": "x"}]},
        "no call before it",
        "input[0].call_id",
    ),
    "an unknown field": ({"temperature": 0.2}, "Extra inputs", "temperature"),
    "a state that does not fit": ({"input": "word " * 10_000}, "the model reads", "input"),
}


@pytest.mark.parametrize("kind", BAD)
async def test_what_cannot_be_used_is_refused_in_the_words_of_the_wire(clients: Clients, kind: str) -> None:
    changes, message, param = BAD[kind]
    body = {"model": "steerwise", "input": INPUT, "questions": [PREDICATE]} | changes
    refused = await clients.plain.post("/v1/decisions", json=body)
    assert refused.status_code == 400, refused.text
    assert set(refused.json()) == {"error"}
    error = refused.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert message in error["message"] and error["type"] == "invalid_request_error"
    assert (error["param"] or "").startswith(param or "body")


async def test_its_client_reads_every_kind_of_refusal(clients: Clients) -> None:
    create = clients.openai.decisions.create
    with pytest.raises(openai.BadRequestError) as bad:
        await create(model="steerwise", input=" ", questions=[PREDICATE])
    assert (bad.value.code, bad.value.param, bad.value.type) == (
        "invalid_request",
        "input",
        "invalid_request_error",
    )
    assert bad.value.request_id
    with pytest.raises(openai.NotFoundError) as unknown:
        await create(model="gpt-6-luna", input=INPUT, questions=[PREDICATE])
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.AuthenticationError):
        await clients.openai.with_options(api_key="sw_no").decisions.create(
            model="steerwise", input=INPUT, questions=[PREDICATE]
        )
    too_large = await clients.plain.post("/v1/decisions", content=b" " * (1 << 20) + b"{}")
    assert (too_large.status_code, too_large.json()["error"]["code"]) == (413, "too_large")


async def test_both_clients_list_the_models_that_a_call_may_name(clients: Clients, live: Live) -> None:
    listed = [model.id async for model in await clients.openai.models.list()]
    assert listed == ["steerwise", live.told.schema.name]
    described = await clients.typesafe.models.list()
    assert [model.name for model in described.models] == listed


async def test_another_tenants_schema_is_no_model(callers: Callers, clients: Clients, live: Live) -> None:
    other = await deployed(callers)
    name = live.told.schema.name + " of ours"
    async with transaction(callers.database, live.told.scope) as session:
        (await session.get_one(Schema, live.told.schema.id)).name = name
    body = {"model": name, "input": INPUT, "questions": [CHOICE | {"choices": [{"value": "refund"}]}]}
    refused = await other.client.post("/v1/decisions", json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
    listed = (await other.client.get("/v1/models")).json()["data"]
    assert [model["id"] for model in listed] == ["steerwise", other.told.schema.name]
