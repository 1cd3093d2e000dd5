"""Mode fast: the code is read at once, and what cannot be had without reasoning is not made up."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from evaluation.__main__ import main
from evaluation.contract.mode import Mode
from evaluation.contract.parse import ParseFailure
from evaluation.contract.record import conversation_from_text
from evaluation.inference.model_client import check_continues
from evaluation.inference.predictor import Prediction, PredictorError, load_codes
from evaluation.inference.runner import Question, Questions
from evaluation.inference.stage_client import ClientSettings, ServedStage, VllmStageClient
from evaluation.metrics.auto_threshold import LEAST_TO_FIT
from tests.evaluation import models
from tests.evaluation.fake_server import CODES, FakeServer, Reply, listening, predictor, says
from tests.evaluation.shop import SCHEMA
from tests.evaluation.test_command_line import inputs as inputs
from tests.factories import bases
from tests.factories.bases import write_tokenizer

TALK = conversation_from_text("please refund the lamp")
SURE = Reply("", {"A": 0.6, "B": 0.15, "G": 0.05})


def ask(server: FakeServer, **options: Any) -> Prediction:
    return asyncio.run(predictor(server, mode=Mode.fast, **options).predict(SCHEMA, TALK))


def test_one_token_is_asked_for_where_the_code_must_come() -> None:
    server = FakeServer(lambda _: SURE)
    found = ask(server)
    (body,) = server.bodies
    assert body["messages"][-1] == {"role": "assistant", "content": "Answer:"}
    assert [message["role"] for message in body["messages"]] == ["system", "user", "assistant"]
    assert (body["max_tokens"], body["add_generation_prompt"], body["continue_final_message"]) == (
        1,
        False,
        True,
    )
    assert (found.category, found.failure, found.mode, found.forced_read) == (
        "refund",
        None,
        Mode.fast,
        False,
    )
    assert (found.reasoning, found.evidence, found.decided_by) == (None, None, None)
    assert found.confidence == pytest.approx(0.75, abs=1e-6)
    assert found.label_mass == pytest.approx(0.8, abs=1e-6)
    assert found.completion_tokens == 1
    assert Prediction.model_validate_json(found.model_dump_json()) == found


def test_the_same_system_message_is_sent_in_both_modes() -> None:
    """So that one prefix is cached for both."""
    server = FakeServer(lambda _: says("A"))
    ask(server)
    asyncio.run(predictor(server).predict(SCHEMA, TALK))
    assert server.bodies[0]["messages"][:2] == server.bodies[1]["messages"]


def test_without_any_code_the_answer_is_unreadable_and_not_made_up() -> None:
    found = ask(FakeServer(lambda _: Reply("", {}), knows_token_ids=False))
    assert (found.category, found.failure, found.probabilities) == (None, ParseFailure.no_label, None)


def test_a_base_without_a_system_role_is_asked_at_once_too(tmp_path: Path) -> None:
    codes = load_codes(write_tokenizer(tmp_path, bases.MISTRAL), 7)
    server = FakeServer(lambda _: SURE, codes=codes)
    assert ask(server, codes=codes).category == "refund"
    assert [message["role"] for message in server.bodies[0]["messages"]] == ["user", "assistant"]


def test_a_stream_has_no_reasoning_to_show() -> None:
    async def pieces() -> list[str | Prediction]:
        asked = predictor(FakeServer(lambda _: SURE), mode=Mode.fast)
        return [piece async for piece in asked.stream(SCHEMA, TALK)]

    (only,) = asyncio.run(pieces())
    assert isinstance(only, Prediction)
    assert only.category == "refund"


def test_outcomes_of_one_mode_are_never_taken_for_those_of_another(tmp_path: Path) -> None:
    server, questions = FakeServer(lambda _: says("A")), Questions("a" * 64, [Question(SCHEMA, TALK)])

    async def asked(mode: Mode) -> Mode:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(server), base_url="http://model"
        ) as client:
            settings = ClientSettings(tmp_path, lambda *_: None, mode=mode)
            stage_client = VllmStageClient(client, [ServedStage("rl", "fake", "b" * 64)], CODES, settings)
            (measured,) = await stage_client.answers("rl", questions)
        assert measured.prediction is not None
        return measured.prediction.mode

    assert [asyncio.run(asked(mode)) for mode in (*Mode, *Mode)] == [*Mode, *Mode]
    assert len(server.bodies) == 2


# ------------------------------------------------------------------------------------ servers that cannot do it


def answering(respond: Callable[[dict[str, Any]], httpx.Response]) -> httpx.AsyncClient:
    transport = httpx.MockTransport(lambda request: respond(json.loads(request.content)))
    return httpx.AsyncClient(transport=transport, base_url="http://model")


def like_vllm(body: dict[str, Any]) -> httpx.Response:
    if body.get("continue_final_message") and body.get("add_generation_prompt"):
        words = "Cannot set both `continue_final_message` and `add_generation_prompt` to True."
        return httpx.Response(400, json={"error": {"message": words}})
    return httpx.Response(200, json={})


def test_a_server_that_goes_on_with_a_message_is_told_from_one_that_does_not_look() -> None:
    asyncio.run(check_continues(answering(like_vllm), "m"))
    for other in (httpx.Response(200, json={}), httpx.Response(400, json={"error": "unknown field"})):
        with pytest.raises(PredictorError, match="the server of m does not go on with a message"):
            asyncio.run(check_continues(answering(lambda _, it=other: it), "m"))


@pytest.mark.seconds
def test_the_evaluation_asks_in_mode_fast_and_its_report_says_so(
    inputs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class NotLooking(FakeServer):
        def respond(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
            return 200, {}

    class LikeVllm(FakeServer):
        def respond(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
            refusal = like_vllm(body)
            return super().respond(body) if refusal.status_code == 200 else (400, refusal.json())

    short = [*inputs, "--mode", "fast", "--max-items", "120"]
    with listening(NotLooking(models.oracle())) as address:
        assert main(["run", *short, "--base-url", address]) == 2
    assert "ask it in mode reasoned" in capsys.readouterr().err
    server = LikeVllm(models.oracle())
    with listening(server) as address:
        assert main(["run", *short, "--base-url", address]) in (0, 3, 4)
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["mode"] == "fast"
    stage = written["stages"][-1]
    again = [
        body for body in server.bodies if body["max_tokens"] > 1
    ]  # with reasoning, for mode auto's threshold
    assert len(again) == stage["auxiliary"]["auto"]["n"] == 30
    assert f"{LEAST_TO_FIT} are needed" in stage["auxiliary"]["auto"]["reason"]
    assert stage["completion_tokens"]["value"] == 1
    assert (stage["reasoning_chars"]["n"], stage["evidence_rate"]["n"]) == (0, 0)
    assert "mode fast" in (tmp_path / "page.html").read_text()
