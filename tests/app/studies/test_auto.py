"""Mode auto beside the two that it is made of, over several tenants."""

import io
from typing import Any

import anyio
import httpx
import pytest

from app.cli.terminal import Terminal
from app.studies import auto as study
from app.studies.auto import AnsweredTwice, AutoMeasured, measures_of
from app.studies.modes import ModelAsked
from app.studies.samples import TenantSample
from evaluation.contract.mode import Mode
from evaluation.contract.record import Split
from evaluation.inference.predictor import Prediction
from evaluation.metrics.auto_threshold import LEAST_TO_FIT
from tests.app.studies.quiet import QUIET
from tests.app.studies.test_modes import Hasty
from tests.evaluation import models
from tests.evaluation.fake_server import CODES
from tests.evaluation.shop import SCHEMA, of_split


def measured(tuning: int, counted: int | None = None) -> AutoMeasured:
    asked, others = of_split(Split.test), of_split(Split.train)
    tenants = [
        TenantSample("one", SCHEMA, asked[:60], others[:tuning]),
        TenantSample("other", SCHEMA, asked[60:90], others[-tuning:]),
    ]

    async def run() -> AutoMeasured:
        transport = httpx.ASGITransport(Hasty(models.oracle(), counted=counted))
        async with httpx.AsyncClient(transport=transport, base_url="http://model") as client:
            return await study.compare(tenants, ModelAsked(client, "base", CODES, QUIET))

    return anyio.run(run)


def test_auto_takes_reasons_where_the_answer_at_once_is_unsure_and_is_as_good_for_fewer_tokens() -> None:
    found = measured(LEAST_TO_FIT)
    every = found.together
    assert set(found.tuned_on.values()) == {LEAST_TO_FIT} and found.errored == 0
    assert every.auto.n == sum(one.auto.n for one in found.by_tenant.values()) == 90
    assert every.reasoned.value == every.auto.value == 1.0
    assert every.fast.value is not None and every.fast.value < 1
    assert every.over_best.value == 0.0 and every.over_fast.value == pytest.approx(1 - every.fast.value)
    assert every.tokens_auto.value is not None and every.tokens_reasoned.value is not None
    assert every.tokens_auto.value < every.tokens_reasoned.value


def test_without_enough_to_find_a_threshold_everything_is_asked_again() -> None:
    found = measured(10)
    assert all(one.value is None and one.reason for one in found.thresholds.values())
    assert found.together.asked_again.value == 1.0
    assert found.together.auto == found.together.reasoned


def test_tokens_that_the_server_does_not_count_are_not_taken_for_none() -> None:
    every = measured(10, counted=0).together
    assert every.tokens_auto.value is None and every.tokens_reasoned.value is None and every.auto.n == 90


def test_in_a_file_no_figure_of_the_table_is_cut() -> None:
    stream = io.StringIO()
    Terminal(stream, soft_wrap=False).print(study.table(measured(60)))
    shown = stream.getvalue()
    assert "…" not in shown and "over best" in shown


def test_the_better_one_is_the_better_of_all_together() -> None:
    def answer(category: str, mode: Mode) -> Prediction:
        nothing: dict[str, Any] = dict.fromkeys(
            ("reasoning", "failure", "evidence", "decided_by", "confidence", "probabilities", "label_mass")
        )
        counts = {"prompt_tokens": 9, "completion_tokens": 1, "cached_tokens": 0, "latency_s": 0.0}
        return Prediction(category=category, mode=mode, forced_read=False, **nothing, **counts)

    def twice(fast: str, reasoned: str, *, sure: bool) -> AnsweredTwice:
        return AnsweredTwice("a", answer(fast, Mode.fast), answer(reasoned, Mode.reasoned), sure)

    found = measures_of(
        [twice("a", "b", sure=True), twice("a", "b", sure=False), twice("b", "a", sure=False)]
    )
    assert (found.fast.value, found.reasoned.value) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert found.over_best == found.over_fast and found.over_fast.value == pytest.approx(0.0)
    assert found.over_reasoned.value == pytest.approx(1 / 3)
    assert found.tokens_auto.value == pytest.approx(5 / 3)
