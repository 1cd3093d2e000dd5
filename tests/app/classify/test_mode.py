"""A mode is served where its own gate has passed, and nowhere else."""

from typing import Any

import anyio
import pytest

from app.auth.principal import Scope
from app.gates.confidence import Fitted
from app.infra.db.session import transaction
from app.infra.tables.deployments import DeploymentState
from app.infra.tables.gates import GateResult
from app.infra.tables.tenants import Fallback
from app.infra.ttl_cache import KEPT_S
from evaluation.contract.mode import Mode
from evaluation.metrics.calibrator import scaled
from evaluation.reporting.report import Verdict
from tests.app.classify.serving_contexts import SAID, Live, asked, model_server, plug_in, set_tenant
from tests.app.classify.test_stream import events
from tests.callers import Callers
from tests.evaluation.fake_server import FakeServer, Reply
from tests.factories.rows import deployment_of, gate_of, save, story

pytestmark = pytest.mark.anyio
RAW = {"delivery": 0.9, "refund": 0.06, None: 0.03}  # renormalised over 0.99
FITTED = Fitted(method="temperature", temperature=2.0, n=240, ece=0.03, ece_n=400)


@pytest.fixture(autouse=True)
async def server(callers: Callers) -> FakeServer:
    made = model_server(lambda _: Reply(f"{SAID}\nAnswer: B", {"B": 0.9, "A": 0.06, "C": 0.03}))
    await plug_in(callers, made)
    return made


async def gated(callers: Callers, live: Live, verdict: Verdict, fitted: Fitted | None = None) -> None:
    """The pair that is deployed has a gate in mode fast too."""
    gate: GateResult = gate_of(live.told.model, live.told.version, verdict)
    gate.mode, gate.calibration = Mode.fast, fitted and fitted.model_dump(mode="json")
    async with transaction(callers.database) as session:
        await save(session, gate)


@pytest.mark.parametrize("verdict", [None, Verdict.failed, Verdict.incomplete])
async def test_a_mode_without_a_passed_gate_of_its_own_is_refused(
    live: Live, callers: Callers, server: FakeServer, verdict: Verdict | None
) -> None:
    if verdict is not None:
        await gated(callers, live, verdict)
    refused = await asked(live, mode="fast")
    assert (refused.status_code, refused.json()["code"]) == (409, "mode_not_gated"), refused.text
    assert not server.bodies
    answer = (await asked(live)).json()
    assert (answer["mode"], answer["reasoning"]) == ("reasoned", SAID)


async def test_a_mode_that_has_passed_is_served_with_its_own_calibration(
    live: Live, callers: Callers, server: FakeServer
) -> None:
    await gated(callers, live, Verdict.passed, FITTED)
    answer = (await asked(live, mode="fast")).json()
    (body,) = server.bodies
    assert (body["max_tokens"], body["messages"][-1]["content"]) == (1, "Answer:")
    assert (answer["mode"], answer["category"]) == ("fast", "delivery")
    assert (answer["reasoning"], answer["evidence"], answer["decided_by"]) == (None, None, None)
    assert answer["confidence"] == pytest.approx(scaled(RAW, 2.0)["delivery"], abs=1e-6)
    assert answer["calibration"] == {"method": "temperature", "n": 240, "ece": 0.03}
    assert answer["usage"]["completion_tokens"] == 1
    reasoned = (await asked(live, mode="reasoned")).json()
    assert reasoned["calibration"]["method"] == "none"


async def test_a_batch_and_a_stream_answer_in_the_mode_asked_for(live: Live, callers: Callers) -> None:
    await gated(callers, live, Verdict.passed)
    streamed = await live.client.post("/v1/classify/stream", json=live.question() | {"mode": "fast"})
    ((kind, last),) = events(streamed)
    items = [{"id": "1", "text": "Where is my parcel?"}]
    body: dict[str, Any] = {"schema_id": live.schema_id, "items": items, "mode": "fast"}
    batch = await live.client.post("/v1/classify/batch", json=body)
    assert kind == "answer"
    for answer in (last, batch.json()["results"][0]["answer"]):
        assert (answer["mode"], answer["reasoning"], answer["category"]) == ("fast", None, "delivery")


async def test_a_deployment_answers_in_the_mode_of_its_gate(callers: Callers) -> None:
    told = story()
    told.gate.mode = Mode.fast
    made = deployment_of(told, state=DeploymentState.live)
    async with transaction(callers.database) as session:
        await save(session, *told, made)
    live = Live(told, str(made.id), await callers.of(told.scope, Scope.classify))
    assert (await asked(live)).json()["mode"] == "fast"
    refused = await asked(live, mode="reasoned")
    assert refused.json()["code"] == "mode_not_gated"


async def test_the_base_may_answer_in_any_mode_where_the_tenant_falls_back_on_it(
    live: Live, callers: Callers
) -> None:
    await set_tenant(callers, live, fallback=Fallback.base)
    await gated(callers, live, Verdict.passed)
    (replica,) = callers.api.state.serving_context.replicas.all
    replica.may_have = lambda name: name == "base"
    answer = (await asked(live, mode="fast")).json()
    assert (answer["degraded"], answer["mode"], answer["model_version"]) == (True, "fast", None)


async def test_a_word_that_is_no_mode_is_named(live: Live) -> None:
    refused = await asked(live, mode="quick")
    assert refused.status_code == 422
    assert "mode" in str(refused.json()["problems"])


# ------------------------------------------------------------------------------------------------- auto, and explain

SURE_ABOVE = FITTED.model_copy(
    update={"auto_threshold": 0.5}
)  # 0.95 of raw confidence is 0.78 at a temperature of 2
UNSURE_ABOVE = FITTED.model_copy(update={"auto_threshold": 0.8})


@pytest.mark.parametrize(
    ("fitted", "mode", "requests"), [(SURE_ABOVE, "fast", 1), (UNSURE_ABOVE, "reasoned", 2)]
)
async def test_auto_asks_for_reasoning_where_the_calibrated_confidence_is_too_low(
    live: Live, callers: Callers, server: FakeServer, fitted: Fitted, mode: str, requests: int
) -> None:
    await gated(callers, live, Verdict.passed, fitted)
    answer = (await asked(live, mode="auto")).json()
    assert (answer["mode"], answer["category"]) == (mode, "delivery")
    assert len(server.bodies) == requests
    assert answer["usage"]["prompt_tokens"] == 50 * requests
    assert answer["reasoning_order"] == (None if mode == "fast" else "before")
    assert answer["calibration"]["method"] == ("temperature" if mode == "fast" else "none")


@pytest.mark.parametrize("path", ["/batch", "/stream"])
async def test_auto_in_a_batch_and_a_stream(
    live: Live, callers: Callers, server: FakeServer, path: str
) -> None:
    await gated(callers, live, Verdict.passed, UNSURE_ABOVE)
    question = live.question() | {"mode": "auto"}
    if path == "/batch":
        question = {
            "schema_id": live.schema_id,
            "mode": "auto",
            "items": [{"id": "1", "text": "Where is it?"}],
        }
    response = await live.client.post(f"/v1/classify{path}", json=question)
    answer = events(response)[-1][1] if path == "/stream" else response.json()["results"][0]["answer"]
    assert (answer["mode"], answer["reasoning"], len(server.bodies)) == ("reasoned", SAID, 2)


@pytest.mark.parametrize(
    ("verdict", "fitted"), [(None, None), (Verdict.failed, SURE_ABOVE), (Verdict.passed, FITTED)]
)
async def test_auto_needs_both_gates_and_a_threshold(
    live: Live, callers: Callers, server: FakeServer, verdict: Verdict | None, fitted: Fitted | None
) -> None:
    """Where the tenant wants it anyway, the deployed mode answers until then."""
    if verdict is not None:
        await gated(callers, live, verdict, fitted)
    refused = await asked(live, mode="auto")
    assert (refused.status_code, refused.json()["code"]) == (409, "mode_not_gated"), refused.text
    assert "both modes" in refused.json()["detail"] and not server.bodies
    await set_tenant(callers, live, mode="auto")
    await anyio.sleep(KEPT_S)
    assert (await asked(live)).json()["mode"] == "reasoned"


async def test_auto_is_the_tenants_mode_once_both_gates_have_passed(live: Live, callers: Callers) -> None:
    await gated(callers, live, Verdict.passed, SURE_ABOVE)
    await set_tenant(callers, live, mode="auto")
    assert (await asked(live)).json()["mode"] == "fast"
    assert (await asked(live, mode="reasoned")).json()["mode"] == "reasoned"


async def test_what_is_answered_at_once_is_explained_on_request(
    live: Live, callers: Callers, server: FakeServer
) -> None:
    await gated(callers, live, Verdict.passed, SURE_ABOVE)
    for mode in ("fast", "auto"):
        answer = (await asked(live, mode=mode, explain=True)).json()
        assert (answer["mode"], answer["reasoning_order"], answer["category"]) == (
            "fast",
            "after",
            "delivery",
        )
        assert answer["reasoning"] and answer["evidence"] is not None
    assert [body["max_tokens"] for body in server.bodies[:2]] == [1, 160]
    plain = (await asked(live, explain=True)).json()
    assert (plain["mode"], plain["reasoning_order"], plain["reasoning"]) == ("reasoned", "before", SAID)


async def test_without_a_gate_nobody_knows_how_sure_is_sure_enough_for_auto(
    live: Live, callers: Callers, server: FakeServer
) -> None:
    await set_tenant(callers, live, mode="auto", ungated="api")
    body = {"categories": [{"key": "a", "definition": "The customer asks where a parcel is."}], "text": "hi"}
    refused = await live.client.post("/v1/classify", json=body | {"mode": "auto"})
    assert (refused.status_code, refused.json()["code"]) == (409, "mode_not_gated")
    assert (await live.client.post("/v1/classify", json=body)).json()["mode"] == "reasoned"
