"""What answers where the deployed model cannot: nothing, the deployment before it, or at last the base."""

from typing import Any, NamedTuple
from uuid import UUID

import pytest
from sqlalchemy import select

from app.gates.confidence import Fitted
from app.infra.db.base import utc_now
from app.infra.db.session import transaction
from app.infra.tables.deployments import Deployment, DeploymentState
from app.infra.tables.gates import GateResult
from app.infra.tables.runs import ModelVersion
from app.infra.tables.tenants import Fallback
from app.serving.vllm import BASE_NAME
from evaluation.reporting.report import Verdict
from tests.app.classify.serving_contexts import CODES, Live, answers, asked, plug_in, set_tenant
from tests.app.classify.test_stream import events
from tests.callers import Callers
from tests.evaluation.fake_server import FakeServer
from tests.factories.rows import deployment_of, gate_of, model_of, save

pytestmark = pytest.mark.anyio


class Forgetful(FakeServer):
    """It has lost these adapters, as a vLLM that was started again.

    short: models for which every conversation is too long.
    """

    def __init__(self, *lost: str):
        super().__init__(answers, codes=CODES)
        self.lost, self.short = lost, set[str]()

    def respond(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if body["model"] in self.short:
            return 400, {"error": "This model's maximum context length is 10 tokens."}
        if body["model"] in self.lost:
            return 404, {"error": f"The model {body['model']} does not exist."}
        return super().respond(body)


class Two(NamedTuple):
    """Deployments, the second of which has replaced the first."""

    before: ModelVersion
    now: ModelVersion
    now_id: str
    before_id: str


@pytest.fixture
async def two(callers: Callers, live: Live) -> Two:
    told = live.told
    async with transaction(callers.database, told.scope) as session:
        first = await session.get_one(Deployment, UUID(live.deployment_id))
        first.state, first.activated_at = DeploymentState.retired, utc_now()
        model = model_of(told.run)
        gate = gate_of(model, told.version, Verdict.passed)
        now = deployment_of(
            told,
            model_version_id=model.id,
            gate_result_id=gate.id,
            activated_at=utc_now(),
            state=DeploymentState.live,
        )
        await session.flush()
        await save(session, model, gate, now)
    return Two(told.model, model, str(now.id), live.deployment_id)


async def forgetting(callers: Callers, live: Live, fallback: Fallback, *lost: ModelVersion) -> Forgetful:
    """The only model server, without the adapters of these, under a tenant that wants this."""
    await set_tenant(callers, live, fallback=fallback)
    server = Forgetful(*(model.adapter_sha256 for model in lost))
    await plug_in(callers, server)
    return server


@pytest.mark.parametrize("fallback", list(Fallback))
async def test_the_deployed_model_answers_as_long_as_it_can(
    fallback: Fallback, live: Live, two: Two, callers: Callers
) -> None:
    await forgetting(callers, live, fallback)
    answer = (await asked(live)).json()
    assert (answer["model_version"], answer["deployment_id"]) == (str(two.now.id), two.now_id)
    assert answer["degraded"] is False


async def test_without_its_adapter_nothing_answers_unless_the_tenant_wants_it(
    live: Live, two: Two, callers: Callers
) -> None:
    await plug_in(callers, Forgetful(two.now.adapter_sha256))
    refused = await asked(live)
    assert refused.status_code == 503 and "Retry-After" in refused.headers


@pytest.mark.parametrize("fallback", [Fallback.previous, Fallback.base])
async def test_the_deployment_before_answers_and_says_so(
    fallback: Fallback, live: Live, two: Two, callers: Callers
) -> None:
    server = await forgetting(callers, live, fallback, two.now)
    answer = (await asked(live)).json()
    assert (answer["category"], answer["degraded"]) == ("delivery", True)
    assert (answer["model_version"], answer["deployment_id"]) == (str(two.before.id), two.before_id)
    assert {body["model"] for body in server.bodies} == {two.before.adapter_sha256}


async def test_at_last_the_base_answers_with_the_schema_that_is_served(
    live: Live, two: Two, callers: Callers
) -> None:
    server = await forgetting(callers, live, Fallback.base, two.now, two.before)
    answer = (await asked(live)).json()
    assert (answer["category"], answer["degraded"], answer["model_version"]) == ("delivery", True, None)
    assert answer["deployment_id"] == two.now_id
    assert {body["model"] for body in server.bodies} == {BASE_NAME}


async def test_confidences_are_those_of_what_answered(live: Live, two: Two, callers: Callers) -> None:
    """Each deployment's by its own gate, and the base's by none."""
    async with transaction(callers.database, live.told.scope) as session:
        for gate in await session.scalars(select(GateResult)):
            n = 100 if gate.model_version_id == two.now.id else 200
            fitted = Fitted(method="temperature", temperature=2.0, n=n, ece=0.1, ece_n=90)
            gate.calibration = fitted.model_dump(mode="json")
    server = await forgetting(callers, live, Fallback.base)
    for lost, method, n in (
        (None, "temperature", 100),
        (two.now, "temperature", 200),
        (two.before, "none", 0),
    ):
        server.lost += () if lost is None else (lost.adapter_sha256,)
        answer = (await asked(live)).json()
        assert (answer["calibration"]["method"], answer["calibration"]["n"]) == (method, n)


async def test_who_wants_the_deployment_before_gets_nothing_from_the_base(
    live: Live, two: Two, callers: Callers
) -> None:
    server = await forgetting(callers, live, Fallback.previous, two.now, two.before)
    assert (await asked(live)).status_code == 503
    assert server.bodies == []


async def test_where_nothing_was_deployed_before_the_base_is_next(live: Live, callers: Callers) -> None:
    await forgetting(callers, live, Fallback.base, live.told.model)
    answer = (await asked(live)).json()
    assert (answer["degraded"], answer["model_version"]) == (True, None)


async def test_a_stream_falls_back_too_and_a_batch(live: Live, two: Two, callers: Callers) -> None:
    await forgetting(callers, live, Fallback.previous, two.now)
    streamed = await live.client.post("/v1/classify/stream", json=live.question())
    last, answer = events(streamed)[-1]
    assert (last, answer["degraded"], answer["model_version"]) == ("answer", True, str(two.before.id))
    items = [{"id": str(n), "text": "Where is my parcel?"} for n in range(3)]
    batch = await live.client.post("/v1/classify/batch", json={"schema_id": live.schema_id, "items": items})
    assert [result["answer"]["degraded"] for result in batch.json()["results"]] == [True] * 3


async def test_what_only_the_fallback_finds_too_long_is_no_fault_of_the_caller(
    live: Live, two: Two, callers: Callers
) -> None:
    server = await forgetting(callers, live, Fallback.previous, two.now)
    server.short.add(two.before.adapter_sha256)
    refused = await asked(live)
    assert refused.status_code == 503 and "Retry-After" in refused.headers
    streamed = await live.client.post("/v1/classify/stream", json=live.question())
    assert streamed.status_code == 503


@pytest.mark.parametrize("path", ["/v1/classify", "/v1/classify/stream"])
async def test_a_model_of_another_base_answers_nobody_whatever_gate_it_has_passed(
    path: str, callers: Callers, live: Live
) -> None:
    server = FakeServer(answers, codes=CODES)
    await plug_in(callers, server)
    await change_base(callers, live, live.told.model.id)
    refused = await live.client.post(path, json=live.question())
    assert (refused.status_code, refused.json()["code"]) == (409, "model_not_served")
    assert "train it again" in refused.json()["detail"]
    assert server.bodies == []


async def test_where_the_base_was_changed_the_base_answers_for_a_tenant_that_wants_it(
    callers: Callers, live: Live
) -> None:
    await plug_in(callers, FakeServer(answers, codes=CODES))
    await change_base(callers, live, live.told.model.id)
    await set_tenant(callers, live, fallback=Fallback.base)
    answer = (await asked(live)).json()
    assert (answer["category"], answer["degraded"], answer["model_version"]) == ("delivery", True, None)


async def change_base(callers: Callers, live: Live, model_id: UUID) -> None:
    """As if the installation had got another since the model was trained."""
    async with transaction(callers.database, live.told.scope) as session:
        (await session.get_one(ModelVersion, model_id)).base_sha256 = "0" * 64
