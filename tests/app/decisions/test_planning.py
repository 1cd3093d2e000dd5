"""What a call takes is known before anything is read: the options in a prompt, the prompts, what they cost."""

import random
from contextlib import AsyncExitStack
from typing import Any

import pytest

from app.classify.label_codes import LabelCodes
from app.decisions import planning
from app.decisions.planning import ReadingPlan, kept_of_each
from app.decisions.question import DecisionQuestion, Option, QuestionKind
from app.decisions.shown import Shown
from app.http.limits import RequestLimits
from app.http.turns import Urgency
from app.serving.base import STARTER, find_base, token_counter
from evaluation.contract.render import render_schema
from evaluation.inference.predictor import load_codes
from tests.app.classify.serving_contexts import Live
from tests.app.decisions.clients import Clients
from tests.callers import Callers
from tests.evaluation.fake_server import FakeServer

pytestmark = pytest.mark.anyio
FOLDER = find_base(STARTER).folder
WORDS = [
    "parcel",
    "order",
    "refund",
    "Köln",
    "漢字",
    "17",
    "</conversation>",
    "<|end|>",
    "don't",
    "e-mail",
    "...",
    "a;b",
    "🎈",
]


def text(rng: random.Random, chars: int) -> str:
    return " ".join(rng.choices(WORDS, k=chars))[:chars].strip() or "x"


def choice(options: int, chars: int, seed: int = 0) -> dict[str, Any]:
    rng = random.Random(seed)
    return {"type": "choice", "criteria": {f"kind {n}": text(rng, chars) for n in range(options)}}


def body(**questions: Any) -> dict[str, Any]:
    return {"model": "steerwise", "state": "where is my parcel", "questions": questions}


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What was taken from the tenant's bucket."""
    taken: list[int] = []

    async def take(_limits: RequestLimits, _scope: Any, cost: int = 1) -> None:
        taken.append(cost)

    monkeypatch.setattr(RequestLimits, "take", take)
    return taken


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Texts whose tokens were counted."""
    seen: list[str] = []
    usual = LabelCodes.tokens

    async def tokens(at: LabelCodes, texts: list[str]) -> list[int]:
        seen.extend(texts)
        return await usual(at, texts)

    monkeypatch.setattr(LabelCodes, "tokens", tokens)
    return seen


def test_a_prompt_has_no_more_tokens_than_its_parts() -> None:
    rng, count, codes = random.Random(0), token_counter(FOLDER), load_codes(FOLDER, 102)
    for options in (1, 2, 17, 100):
        made = tuple(Option(f"n{n}", text(rng, 30) + str(n), text(rng, 200)) for n in range(options))
        shown = Shown.of(DecisionQuestion("here", QuestionKind.choice, text(rng, 300), made), 1)
        parts = list(planning._parts(shown, codes))
        whole = codes.form.broken_up(render_schema(shown.schema(range(options)), codes.texts))
        smallest = render_schema(planning._SMALLEST, codes.texts)
        assert len(parts) == options + 1
        assert (
            count([whole])[0]
            <= sum(count(parts)) + count([smallest])[0]
            < count([whole])[0] + 3 * options + 20
        )


@pytest.mark.parametrize("options", [255, 101, 7])
@pytest.mark.parametrize("most", [100, 60, 7, 3, 2])
def test_the_last_of_many_reads_is_over_what_fits(options: int, most: int) -> None:
    made = tuple(Option(str(n), str(n), None) for n in range(options))
    plan = ReadingPlan(Shown.of(DecisionQuestion("here", QuestionKind.choice, None, made), 3), most)
    left, reads = list(range(options)), 0
    while len(left) > most:
        groups = plan.groups(left)
        assert max(map(len, groups)) <= most and sorted(n for group in groups for n in group) == sorted(left)
        left = [n for group in groups for n in group[: kept_of_each(len(groups), most)]]
        reads += len(groups)
    assert plan.reads == 3 * (reads + 1)


async def test_a_call_costs_as_many_conversations_as_it_takes_prompts(
    clients: Clients, server: FakeServer, costs: list[int]
) -> None:
    asked = body(one=choice(2, 20), long=choice(30, 2000), many=choice(101, 20)) | {"orders": 2}
    answers = (await clients.plain.post("/v1/systemone", json=asked)).raise_for_status().json()["answers"]
    reads = {name: answer["steerwise"]["reads"] for name, answer in answers.items()}
    assert reads["one"] == 2 and reads["many"] == 6 and reads["long"] > 12
    assert costs == [6, len(server.bodies) - 6] and len(server.bodies) == sum(reads.values())


async def test_a_call_of_too_many_prompts_is_refused_before_any_is_read(
    clients: Clients, server: FakeServer, costs: list[int]
) -> None:
    asked = body(**{f"q{n}": choice(255, 5) for n in range(8)}) | {"orders": 32}
    refused = await clients.plain.post("/v1/systemone", json=asked)
    assert refused.status_code == 422 and "asks for 1024 reads" in refused.text
    assert server.bodies == [] and costs == [256]


async def test_a_state_that_no_question_fits_beside_is_counted_once(
    clients: Clients, server: FakeServer, counted: list[str]
) -> None:
    asked = body(**{f"q{n}": choice(100, 100) for n in range(5)}) | {"state": "word " * 5_000, "orders": 32}
    refused = await clients.plain.post("/v1/systemone", json=asked)
    assert refused.status_code == 422, refused.text
    (problem,) = refused.json()["detail"]
    assert problem["loc"] == ["body", "state"] and "without a question" in problem["msg"]
    assert len(counted) == 1 and server.bodies == []


async def test_every_option_is_counted_once_however_many_prompts_it_takes(
    clients: Clients, counted: list[str]
) -> None:
    asked = body(q=choice(40, 1500))
    answer = (await clients.plain.post("/v1/systemone", json=asked)).raise_for_status().json()["answers"]["q"]
    assert answer["steerwise"]["reads"] > 4
    parts = [one for one in counted if one.startswith("name: ")]
    assert len(parts) == len(set(parts)) == 40


async def test_what_is_long_is_counted_in_a_place_of_its_tenants(
    callers: Callers, clients: Clients, live: Live, counted: list[str]
) -> None:
    turns = callers.api.state.serving_context.limits.turns
    async with AsyncExitStack() as places:
        for _ in range(turns.of_one):
            place = turns.place(live.told.scope.tenant_id, Urgency.interactive, 1.0)
            await places.enter_async_context(place)
        refused = await clients.plain.post("/v1/systemone", json=body(q=choice(20, 1500)))
    assert (refused.status_code, refused.json()["code"]) == (429, "share_exceeded")
    assert counted == []


async def test_two_options_that_do_not_fit_are_told_of(clients: Clients) -> None:
    refused = await clients.plain.post("/v1/systemone", json=body(q=choice(3, 9_000)))
    (problem,) = refused.json()["detail"]
    assert problem["loc"] == ["body", "questions.q.criteria"]
    assert "with 2 of its options" in problem["msg"] and problem["type"] == "conversation_too_long"
