"""Answers have the confidence that the gate has found to be true of their model and version, and say so."""

from typing import Any

import pytest

from app.gates.confidence import Fitted
from app.infra.db.session import transaction
from app.infra.tables.gates import GateResult
from evaluation.metrics.calibrator import scaled
from tests.app.classify.serving_contexts import SAID, Live, asked, model_server, plug_in, set_tenant
from tests.app.classify.test_stream import events
from tests.callers import Callers
from tests.evaluation.fake_server import Reply

pytestmark = pytest.mark.anyio
RAW = {"delivery": 0.9, "refund": 0.06, None: 0.03}  # renormalised over 0.99
FITTED = Fitted(method="temperature", temperature=2.0, n=240, ece=0.03, ece_n=400)
SAYS = {"method": "temperature", "n": 240, "ece": 0.03}


@pytest.fixture(autouse=True)
async def server(callers: Callers) -> None:
    await plug_in(
        callers, model_server(lambda _: Reply(f"{SAID}\nAnswer: B", {"B": 0.9, "A": 0.06, "C": 0.03}))
    )


async def fit(callers: Callers, live: Live, fitted: Fitted) -> None:
    async with transaction(callers.database, live.told.scope) as session:
        gate = await session.get_one(GateResult, live.told.gate.id)
        gate.calibration = fitted.model_dump(mode="json")


def probabilities(answer: dict[str, Any]) -> dict[str | None, float]:
    return {one["category"]: one["probability"] for one in answer["probabilities"]}


async def test_probabilities_are_those_at_the_temperature_of_the_gate(live: Live, callers: Callers) -> None:
    await fit(callers, live, FITTED)
    answer = (await asked(live)).json()
    expected = scaled(RAW, 2.0)
    assert probabilities(answer) == pytest.approx(expected, abs=1e-6)
    assert [one["category"] for one in answer["probabilities"]] == ["delivery", "refund", None]
    assert (
        answer["confidence"] == pytest.approx(expected["delivery"], abs=1e-6) and answer["confidence"] < 0.71
    )
    assert (answer["category"], answer["label_mass"]) == ("delivery", pytest.approx(0.99, abs=1e-6))
    assert answer["calibration"] == SAYS


async def test_where_the_gate_could_fit_nothing_the_models_own_confidence_is_shown_and_called_that(
    live: Live, callers: Callers
) -> None:
    await fit(callers, live, Fitted(method="none", temperature=1.0, n=12, ece=0.2, ece_n=80))
    answer = (await asked(live)).json()
    assert answer["confidence"] == pytest.approx(0.9 / 0.99, abs=1e-6)
    assert answer["calibration"] == {"method": "none", "n": 12, "ece": 0.2}


@pytest.mark.parametrize(("temperature", "abstained"), [(2.0, True), (0.5, False)])
async def test_the_tenants_threshold_is_of_the_confidence_shown(
    live: Live, callers: Callers, temperature: float, abstained: bool
) -> None:
    """The model's own, 0.91, is on the other side of each."""
    await fit(callers, live, FITTED.model_copy(update={"temperature": temperature}))
    await set_tenant(callers, live, abstain_below=0.8 if abstained else 0.95)
    answer = (await asked(live)).json()
    assert (answer["abstained"], answer["category"]) == (abstained, None if abstained else "delivery")


async def test_a_stream_and_a_batch_answer_alike(live: Live, callers: Callers) -> None:
    await fit(callers, live, FITTED)
    streamed = await live.client.post("/v1/classify/stream", json=live.question())
    _, last = events(streamed)[-1]
    items = [{"id": "1", "text": "Where is my parcel?"}]
    batch = await live.client.post("/v1/classify/batch", json={"schema_id": live.schema_id, "items": items})
    for answer in (last, batch.json()["results"][0]["answer"]):
        assert answer["confidence"] == pytest.approx(scaled(RAW, 2.0)["delivery"], abs=1e-6)
        assert answer["calibration"] == SAYS


async def test_an_answer_whose_confidence_is_unknown_stays_so(live: Live, callers: Callers) -> None:
    await fit(callers, live, FITTED)
    await plug_in(callers, model_server(lambda _: Reply("Answer: Z"), knows_token_ids=False))
    answer = (await asked(live)).json()
    assert (answer["failure"], answer["confidence"]) == ("unknown_label", None)
