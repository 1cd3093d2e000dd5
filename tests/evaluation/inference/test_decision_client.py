"""Servers of typed decisions as stages: tried before all is asked, in the one mode that they have."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from evaluation.contract.mode import Mode
from evaluation.inference.decision_client import DecisionStageClient
from evaluation.inference.decision_wires import Wire
from evaluation.inference.predictor import PredictorError
from evaluation.inference.stage_client import ClientSettings, ServedStage
from evaluation.metrics import auxiliary
from evaluation.metrics.auxiliary import AuxiliaryAnswers
from tests.evaluation import models
from tests.evaluation.evaluation_run import auxiliary_suites
from tests.evaluation.wire_server import WireServer

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("without_pauses")]
AT = "http://decisions"


def stage_client(answer: Any, kept: Path, complaints: list[str] | None = None) -> DecisionStageClient:
    """answer: of a request, a response or an error."""

    def respond(request: httpx.Request) -> httpx.Response:
        found = answer(request)
        if isinstance(found, Exception):
            raise found
        return found if isinstance(found, httpx.Response) else httpx.Response(found[0], json=found[1])

    client = httpx.AsyncClient(transport=httpx.MockTransport(respond), base_url=AT)
    said = complaints if complaints is not None else []
    settings = ClientSettings(kept, lambda *_: None, mode=Mode.fast, complain=said.append)
    return DecisionStageClient(
        client, [ServedStage("candidate", "fake", "fake", server=AT)], Wire.systemone, settings
    )


def probabilities(shares: Any) -> httpx.Response:
    content = json.dumps({"answers": {"category": {"probabilities": shares}}})
    return httpx.Response(200, content=content, headers={"Content-Type": "application/json"})


@pytest.mark.parametrize(
    ("answer", "came", "to_do"),
    [
        (httpx.Response(200, html="<p>Welcome</p>"), "not JSON", "belong together"),
        (httpx.Response(200, json={"choices": []}), "'answers' is missing", "belong together"),
        (httpx.Response(200, json=[1]), "not an answer of the wire systemone", "belong together"),
        (probabilities({"yes": float("nan"), "no": 1}), "nan", "belong together"),
        (probabilities({"yes": 1}), "'no' is missing", "belong together"),
        (httpx.Response(307, headers={"Location": "https://other/"}), "307: it sends to https://other/", "sends to"),
        (httpx.Response(401, json={"error": "who?"}), "refuses model 'fake'", "--api-key-env"),
        (httpx.Response(404, json={"error": "no\nmodel"}), '404: {"error":"no', "belong together"),
        (httpx.Response(500, text="<p>Out  of\nmemory</p>"), "500: <p>Out of memory</p>", "has written"),
        (httpx.Response(503), "503", "has room"),
        (httpx.ConnectError("nothing there"), "nothing there", "see that it runs"),
    ],
)  # fmt: skip
async def test_a_server_that_cannot_be_measured_is_told_from_one_that_can_before_all_is_asked(
    answer: Any, came: str, to_do: str, tmp_path: Path
) -> None:
    with pytest.raises(PredictorError) as told:
        await stage_client(lambda _: answer, tmp_path).check()
    sentence = str(told.value)
    assert came in sentence and to_do in sentence and AT in sentence and "\n" not in sentence


async def test_a_server_that_answers_passes_even_if_it_was_busy_before(tmp_path: Path) -> None:
    server, refusals = WireServer(models.oracle()), iter(range(20))
    busy = httpx.Response(429)
    await stage_client(
        lambda r: server.respond(json.loads(r.content)) if next(refusals, None) is None else busy, tmp_path
    ).check()


async def test_calibration_is_asked_once_where_there_is_no_mode_with_reasoning(tmp_path: Path) -> None:
    server = WireServer(models.oracle())
    client = stage_client(lambda request: server.respond(json.loads(request.content)), tmp_path)
    suites = auxiliary_suites()
    found = await auxiliary.ask(suites, client, "candidate", None, whole=True, mode=Mode.fast)
    assert len(found.calibration) == len(suites.calibration.conversations) > 0
    assert found.calibration_reasoned == AuxiliaryAnswers((), ()).calibration_reasoned
    with pytest.raises(ValueError, match="no mode reasoned"):
        await client.answers("candidate", suites.calibration.questions, mode=Mode.reasoned)


def test_requests_that_failed_are_complained_of_with_what_was_said_most_often(tmp_path: Path) -> None:
    asked, complaints = 0, list[str]()
    server = WireServer(models.oracle())

    def failing(request: httpx.Request) -> Any:
        nonlocal asked
        asked += 1
        odd = httpx.Response(500, text="out of memory") if asked % 4 == 0 else probabilities({})
        return odd if asked % 4 < 2 else server.respond(json.loads(request.content))

    questions = auxiliary_suites().calibration.questions
    questions = questions._replace(each=questions.each[:19])
    asyncio.run(stage_client(failing, tmp_path, complaints).answers("candidate", questions))
    (sentence,) = complaints
    assert sentence.startswith("candidate, calibration: 9 of 19 requests failed, most often: ")
    assert "is missing" in sentence
