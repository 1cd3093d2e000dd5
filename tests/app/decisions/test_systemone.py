"""The System One wire, by its own client: what is asked, what comes back, and how it is refused."""

from typing import Any
from uuid import uuid4

import pytest
from backports.zstd import compress
from typesafe_sdk import (
    Choice,
    Noul,
    Score,
    TypeSafeAPIError,
    TypeSafeAuthenticationError,
    TypeSafeNotFoundError,
    TypeSafeUnprocessableEntityError,
)

from app.auth.principal import Scope
from app.decisions.question import MAX_DESCRIPTION_CHARS, MAX_NAME_CHARS
from app.infra.db.session import transaction
from app.infra.tables.schemas import Schema
from app.infra.tables.tenants import Ungated
from tests.app.classify.serving_contexts import Live, set_tenant
from tests.app.decisions.clients import Clients, typesafe
from tests.callers import Callers
from tests.evaluation.fake_server import FakeServer
from tests.factories.rows import CONTENT, save

pytestmark = pytest.mark.anyio
STATE = "Where is my parcel? It was to come on monday."
NOUL: Any = {"type": "noul", "instructions": "Is this about a parcel?"}
CHOICE: Any = {"type": "choice", "criteria": {"delivery": "asks where a parcel is", "refund": None}}


async def test_several_questions_about_one_state_are_answered_by_their_names(
    clients: Clients, server: FakeServer
) -> None:
    found = await clients.typesafe.system_one(
        state=STATE,
        questions={
            "team": Choice(
                instructions="Which team?",
                criteria={"money": "The customer wants money back", "parcels": "asks where a parcel is"},
            ),
            "late": Noul(instructions="Is it late?", criteria={"true": "it was to come", "false": None}),
            "patience": Score(instructions="How calm?", criteria=["Calm", "Where is my parcel?", "Angry"]),
        },
    )
    assert (found.model, set(found.answers)) == ("steerwise", {"team", "late", "patience"})
    team = found.choices["team"]
    assert team.choice == "parcels" and team.probabilities["parcels"] > team.probabilities["money"]
    assert sum(team.probabilities.values()) == pytest.approx(1.0)
    assert found.nouls["late"].noul > 0.5
    patience = found.scores["patience"]
    assert patience.legend == {0: "Calm", 1: "Where is my parcel?", 2: "Angry"}
    expected = sum(level * p for level, p in patience.probabilities.items())
    assert (
        patience.score == pytest.approx(expected)
        and max(patience.probabilities, key=patience.probabilities.__getitem__) == 1
    )
    assert (found.usage.input_tokens, found.usage.output_tokens) == (150, 3)
    assert len(server.bodies) == 3  # one read each, of one token, by the base
    assert {body["max_tokens"] for body in server.bodies} == {1}
    assert {body["model"] for body in server.bodies} == {"base"}


async def test_each_question_is_shown_alone_in_the_words_of_the_contract(
    clients: Clients, server: FakeServer
) -> None:
    questions: Any = {"late": NOUL, "other": {"type": "choice", "criteria": {"a": None, "b": "the second"}}}
    await clients.typesafe.system_one(state=STATE, questions=questions)
    first, second = sorted((body["messages"][0]["content"] for body in server.bodies), key=len, reverse=True)
    assert "question: Is this about a parcel?" in first
    assert 'name: yes\ndefinition A "it is right" = A' in first
    assert 'name: no\ndefinition B "it is not right" = B' in first
    assert 'name: a\ndefinition A "a" = A' in second and 'name: b\ndefinition B "the second" = B' in second
    assert "parcel" not in second.lower()


async def test_a_state_may_be_json_and_a_list_of_messages_is_a_conversation(
    clients: Clients, server: FakeServer
) -> None:
    await clients.typesafe.system_one(state={"order": {"parcel": 17, "ort": "Köln"}}, questions={"q": NOUL})
    turns = [{"role": "agent", "text": "Hello"}, {"role": "customer", "text": "Where is it?"}]
    await clients.typesafe.system_one(state=turns, questions={"q": NOUL})
    await clients.typesafe.system_one(state={"messages": turns}, questions={"q": NOUL})
    json_state, *conversations = (body["messages"][1]["content"] for body in server.bodies)
    assert 'customer: {"order": {"parcel": 17, "ort": "Köln"}}' in json_state
    assert all("\nagent: Hello\ncustomer: Where is it?\n" in shown for shown in conversations)


async def test_messages_that_end_with_an_agent_are_json_of_which_nothing_is_left_out(
    clients: Clients, server: FakeServer
) -> None:
    turns = [{"role": "customer", "text": "Where is it?"}, {"role": "agent", "text": "On its way."}]
    await clients.typesafe.system_one(state=turns, questions={"q": NOUL})
    (body,) = server.bodies
    assert "On its way." in body["messages"][1]["content"]


async def test_reasoning_is_written_where_it_is_asked_for(clients: Clients) -> None:
    body = {"model": "steerwise", "state": STATE, "questions": {"q": CHOICE}, "mode": "reasoned"}
    answer = (await clients.plain.post("/v1/systemone", json=body)).json()["answers"]["q"]
    assert answer["choice"] == "delivery"
    assert (answer["steerwise"]["reasoning"], answer["steerwise"]["mode"]) == ("Because.", "reasoned")


async def test_a_schema_is_asked_by_its_name_and_answered_by_its_deployment(
    clients: Clients, live: Live, server: FakeServer
) -> None:
    body = {
        "model": live.told.schema.name,
        "state": STATE,
        "questions": {
            "category": {"type": "choice", "criteria": {"refund": None, "delivery": None}},
            "whole": {"type": "choice", "instructions": "Which is it?"},
            "parcel": NOUL,
        },
    }
    answers = (await clients.plain.post("/v1/systemone", json=body)).raise_for_status().json()["answers"]
    for name, hidden in (("category", []), ("whole", ["instructions"])):
        behind = answers[name]["steerwise"]
        assert answers[name]["choice"] == "delivery"
        assert set(answers[name]["probabilities"]) == {"refund", "delivery", "(none)"}
        assert (behind["gate"], behind["schema_name"], behind["schema_version"]) == ("passed", "support", 1)
        assert behind["deployment_id"] == live.deployment_id
        assert (behind["mode"], behind["not_shown"]) == ("reasoned", hidden)
    assert answers["parcel"]["steerwise"]["gate"] == "none"
    asked = [body["model"] for body in server.bodies]
    assert sorted(asked) == sorted(["base", live.told.model.adapter_sha256, live.told.model.adapter_sha256])


async def test_a_schema_that_nothing_is_deployed_for_is_answered_by_the_base_at_once(
    callers: Callers, clients: Clients, live: Live
) -> None:
    schema = Schema(id=uuid4(), tenant_id=live.told.tenant.id, name="new", draft=CONTENT)
    async with transaction(callers.database) as session:
        await save(session, schema)
    body = {"model": "new", "state": STATE, "questions": {"q": {"type": "choice"}}}
    answer = (await clients.plain.post("/v1/systemone", json=body)).raise_for_status().json()["answers"]["q"]
    assert answer["choice"] == "delivery"
    assert {k: answer["steerwise"][k] for k in ("gate", "mode", "deployment_id", "schema_version")} == {
        "gate": "none",
        "mode": "fast",
        "deployment_id": None,
        "schema_version": None,
    }


async def test_where_the_tenant_lets_nobody_be_answered_ungated_ad_hoc_questions_are_refused(
    callers: Callers, clients: Clients, live: Live
) -> None:
    await set_tenant(callers, live, ungated=Ungated.playground)
    body = {"model": "steerwise", "state": STATE, "questions": {"q": NOUL}}
    refused = await clients.plain.post("/v1/systemone", json=body)
    assert (refused.status_code, refused.json()["code"]) == (409, "ungated_not_allowed")
    own = body | {"model": live.told.schema.name, "questions": {"q": {"type": "choice"}}}
    assert (await clients.plain.post("/v1/systemone", json=own)).status_code == 200
    plays = await callers.of(live.told.scope, Scope.classify, Scope.playground)
    assert (await plays.post("/v1/systemone", json=body)).status_code == 200


async def test_below_the_tenants_threshold_an_answer_says_so(
    callers: Callers, clients: Clients, live: Live
) -> None:
    await set_tenant(callers, live, abstain_below=0.999)
    body = {"model": live.told.schema.name, "state": STATE, "questions": {"q": {"type": "choice"}, "n": NOUL}}
    answers = (await clients.plain.post("/v1/systemone", json=body)).json()["answers"]
    assert [answers[name]["steerwise"]["abstained"] for name in ("q", "n")] == [True, False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"refund": None, "delivrey": None}, "'delivrey' is no category"),
        ({"refund": None}, "'delivery' is left out"),
    ],
)
async def test_a_schema_is_asked_as_a_whole(
    clients: Clients, live: Live, options: dict[str, Any], message: str
) -> None:
    questions: Any = {"q": {"type": "choice", "criteria": options}}
    with pytest.raises(TypeSafeUnprocessableEntityError, match=message):
        await clients.typesafe.system_one(state=STATE, model=live.told.schema.name, questions=questions)


# --------------------------------------------------------------------------------------------------------- refusals

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "the 256th option": (
        {"questions": {"q": {"type": "choice", "criteria": {f"option {n}": None for n in range(256)}}}},
        "at most 255 items",
    ),
    "an empty state": ({"state": " \n"}, "state: is empty"),
    "an empty object": ({"state": {}}, "state: is empty"),
    "an unknown type": ({"questions": {"q": {"type": "box"}}}, "'noul', 'choice', 'score'"),
    "no type": ({"questions": {"q": {"instructions": "?"}}}, "questions.q: has no 'type'"),
    "no criteria": (
        {"questions": {"q": {"type": "choice", "instructions": "Which?"}}},
        "nothing to choose from",
    ),
    "no levels": ({"questions": {"q": {"type": "score", "instructions": "How?"}}}, "Field required"),
    "an empty level": ({"questions": {"q": {"type": "score", "criteria": ["low", " "]}}}, "is empty"),
    "nothing asked": ({"questions": {"q": {"type": "noul"}}}, "asks nothing"),
    "no questions": ({"questions": {}}, "at least 1 item"),
    "a state of 1 MB": ({"state": "word " * 200_000}, "1000000 characters"),
    "ten thousand questions": ({"questions": {f"q{n}": NOUL for n in range(10_000)}}, "50000 values"),
    "too many reads": ({"questions": {f"q{n}": NOUL for n in range(32)}, "orders": 32}, "1024 reads"),
    "an option without a name": ({"questions": {"q": {"type": "choice", "criteria": {" ": "x"}}}}, "be seen"),
    "long instructions": (
        {"questions": {"q": {"type": "noul", "instructions": "x" * 2001}}},
        "2001 characters",
    ),
    "a description longer than a category": (
        {"questions": {"q": {"type": "noul", "criteria": {"true": "x" * (MAX_DESCRIPTION_CHARS + 1)}}}},
        f"{MAX_DESCRIPTION_CHARS + 1} characters",
    ),
    "a long name of an option": (
        {"questions": {"q": {"type": "choice", "criteria": {"x" * (MAX_NAME_CHARS + 1): None}}}},
        f"1 to {MAX_NAME_CHARS} characters",
    ),
    "an image": ({"assets": {"a": {"type": "image", "data_base64": "AA=="}}}, "images are not read"),
    "an unknown field": ({"temperature": 0.2}, "temperature"),
    "a NUL": ({"state": "a\x00b"}, "contains a NUL character"),
    "a state that does not fit": ({"state": "word " * 10_000}, "the model reads"),
}


@pytest.mark.parametrize("kind", BAD)
async def test_what_cannot_be_used_is_refused_in_the_words_of_the_wire(clients: Clients, kind: str) -> None:
    changes, message = BAD[kind]
    body = {"model": "steerwise", "state": STATE, "questions": {"q": NOUL}} | changes
    refused = await clients.plain.post("/v1/systemone", json=body)
    assert refused.status_code == 422, refused.text
    found = refused.json()
    assert set(found) == {"detail", "code", "request_id"}
    assert all(set(entry) == {"loc", "msg", "type"} for entry in found["detail"])
    assert any(message in f"{'.'.join(entry['loc'][1:])}: {entry['msg']}" for entry in found["detail"]), found


@pytest.mark.parametrize(
    ("questions", "twice"),
    [
        ('{"q": {"type": "noul", "instructions": "a"}, "q": {"type": "noul", "instructions": "b"}}', "q"),
        ('{"q": {"type": "choice", "criteria": {"a": "first", "b": null, "a": "second"}}}', "a"),
    ],
)
async def test_what_stands_twice_is_refused_and_nothing_is_dropped(
    clients: Clients, questions: str, twice: str
) -> None:
    content = f'{{"model": "steerwise", "state": "hello", "questions": {questions}}}'
    headers = {"Content-Type": "application/json"}
    refused = await clients.plain.post("/v1/systemone", content=content, headers=headers)
    assert refused.status_code == 422
    (problem,) = refused.json()["detail"]
    assert problem["loc"] == ["body"] and f"'{twice}' stands twice" in problem["msg"]


async def test_what_is_not_sent_as_json_is_told_how_to_be_sent(clients: Clients) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for more, said in (
        ({"content": b'{"model": "steerwise"}', "headers": form}, "application/json"),
        ({"content": b'{"model": "steerwise"}'}, "application/json"),
        ({"files": {"image": b"\x89PNG"}}, "application/json; files and images are not read"),
    ):
        of_one = await clients.plain.post("/v1/systemone", **more)
        assert of_one.status_code == 422
        assert [one["msg"] for one in of_one.json()["detail"]] == [f"send it as Content-Type: {said}"]
        of_other = await clients.plain.post("/v1/decisions", **more)
        assert of_other.status_code == 400
        assert of_other.json()["error"]["message"] == f"body: send it as Content-Type: {said}"


async def test_every_answer_has_its_id_where_its_client_looks_for_it(
    callers: Callers, clients: Clients, server: FakeServer
) -> None:
    found = await clients.typesafe.system_one(state=STATE, questions={"q": NOUL})
    listed = await clients.typesafe.models.list()
    assert found.request_id and listed.request_id
    with pytest.raises(TypeSafeUnprocessableEntityError) as refused:
        await clients.typesafe.system_one(state=" ", questions={"q": NOUL})
    with pytest.raises(TypeSafeAuthenticationError) as unknown:
        await typesafe(callers, "sw_no").models.list()
    server.failing = [503] * 4
    with pytest.raises(TypeSafeAPIError) as away:
        await clients.typesafe.system_one(state=STATE, questions={"q": NOUL})
    for error in (refused.value, unknown.value, away.value):
        assert error.request_id and error.request_id == error.headers["x-request-id"]


async def test_a_refusal_does_not_repeat_all_that_somebody_wrote(clients: Clients) -> None:
    body = {"model": "steerwise", "state": STATE, "questions": {"q": {"type": "box" * 100_000}}}
    refused = await clients.plain.post("/v1/systemone", json=body)
    assert refused.status_code == 422 and len(refused.content) < 2_000


async def test_a_body_may_be_packed_as_its_client_does_by_itself(
    clients: Clients, server: FakeServer
) -> None:
    long = "Where is my parcel? " * 100
    found = await clients.typesafe.system_one(state=long, questions={"q": CHOICE})
    assert found.choices["q"].choice == "delivery"
    assert found.raw_http_response.request.headers["content-encoding"] == "zstd"
    assert long.strip() in server.bodies[0]["messages"][1]["content"]


@pytest.mark.parametrize(
    ("encoding", "content", "status", "message"),
    [
        ("zstd", b"{}", 422, "is not the zstd"),
        ("zstd", compress(b"{}" * 999)[:-3], 422, "ends in the middle"),
        ("zstd", compress(b" " * (1 << 24)), 413, "is larger"),
        ("br", b"{}", 415, "packed as 'br'"),
    ],
)
async def test_what_cannot_be_unpacked_is_refused_and_nothing_grows_without_end(
    clients: Clients, encoding: str, content: bytes, status: int, message: str
) -> None:
    headers = {"Content-Encoding": encoding, "Content-Type": "application/json"}
    refused = await clients.plain.post("/v1/systemone", content=content, headers=headers)
    assert refused.status_code == status and message in str(refused.json()["detail"])


async def test_its_client_reads_every_kind_of_refusal(
    callers: Callers, clients: Clients, server: FakeServer
) -> None:
    with pytest.raises(
        TypeSafeUnprocessableEntityError, match=r"questions\.q\.criteria: has nothing to choose"
    ):
        await clients.typesafe.system_one(
            state=STATE, questions={"q": CHOICE}, extra_body={"questions": {"q": {"type": "choice"}}}
        )
    with pytest.raises(TypeSafeNotFoundError, match="there is no model 'jev-latest'"):
        await clients.typesafe.system_one(state=STATE, model="jev-latest", questions={"q": NOUL})
    with pytest.raises(TypeSafeAuthenticationError, match="API key") as refused:
        await typesafe(callers, "sw_no").system_one(state=STATE, questions={"q": NOUL})
    assert refused.value.status == 401
    too_large = await clients.plain.post("/v1/systemone", content=b" " * (1 << 20) + b"{}")
    assert (too_large.status_code, too_large.json()["code"]) == (413, "too_large")
    assert isinstance(too_large.json()["detail"], str)
    assert (await clients.plain.get("/v1/systemone")).json()["code"] == "method_not_allowed"
    server.failing = [503] * 4
    away = await clients.plain.post(
        "/v1/systemone", json={"model": "steerwise", "state": STATE, "questions": {"q": NOUL}}
    )
    assert (away.status_code, away.json()["code"]) == (503, "serving_away")
    assert away.headers["retry-after"]
