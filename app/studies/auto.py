"""Whether mode auto is as good as the better one of fast and reasoned, over several tenants, without an edit.

The base as it stands is asked the same in both. A threshold is found for each tenant on conversations of its own that
are not counted, as a gate finds it; auto's answer is then the one or the other of the two that are there, which is what
asking again would give.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import httpx
from pydantic import BaseModel
from rich.table import Table

from app.cli.console import Progress
from app.serving.base import ModelBase
from app.serving.vllm import BASE_NAME, while_alive
from app.settings import Settings
from app.studies.modes import ModelAsked, Tuned, tuned_on
from app.studies.samples import TenantSample
from app.studies.serving import served
from app.studies.tables import with_interval
from evaluation.contract.mode import Mode
from evaluation.contract.record import Conversation
from evaluation.contract.schema import CategorySchema
from evaluation.contract.score import is_right
from evaluation.inference.predictor import Prediction, load_codes, usage
from evaluation.inference.runner import Measured, Question, Questions
from evaluation.metrics.auto_threshold import LEAST_TO_FIT, AutoThreshold
from evaluation.metrics.calibrator import Gold
from evaluation.metrics.measures import Measure, mean, paired_difference, rate

TUNING: Final = LEAST_TO_FIT + 10  # of each tenant: some may stay without an answer


class AutoMeasures(BaseModel):
    """Of the same conversations. over_…: accuracy of auto minus that of the other, paired; over_best: of the more
    accurate one of the two. tokens_…: written for an answer."""

    fast: Measure
    reasoned: Measure
    auto: Measure
    over_fast: Measure
    over_reasoned: Measure
    over_best: Measure
    asked_again: Measure
    tokens_reasoned: Measure
    tokens_auto: Measure


class AutoMeasured(BaseModel):
    """errored: conversations that are left out."""

    errored: int
    tuned_on: dict[str, int]
    thresholds: dict[str, AutoThreshold]
    by_tenant: dict[str, AutoMeasures]
    together: AutoMeasures


class AnsweredTwice(NamedTuple):
    """sure: whether the answer at once may stand."""

    gold: str | None
    fast: Prediction
    reasoned: Prediction
    sure: bool

    @property
    def auto(self) -> Prediction:
        return self.fast if self.sure else self.reasoned

    @property
    def asked(self) -> tuple[Prediction, ...]:
        """What auto has answered by."""
        return (self.fast,) if self.sure else (self.fast, self.reasoned)


def measure(
    tenants: Sequence[TenantSample], base: ModelBase, settings: Settings, progress: Progress
) -> AutoMeasured:
    with served(base, settings, progress) as vllm:
        work = _asked(tenants, base, vllm.endpoint.async_client(), settings, progress)
        return asyncio.run(while_alive(vllm, work))


async def _asked(
    tenants: Sequence[TenantSample],
    base: ModelBase,
    http: httpx.AsyncClient,
    settings: Settings,
    progress: Progress,
) -> AutoMeasured:
    codes = load_codes(base.folder, max(len(one.schema.answers) for one in tenants))
    async with http:
        return await compare(tenants, ModelAsked(http, BASE_NAME, codes, progress, settings.concurrency))


async def compare(tenants: Sequence[TenantSample], model: ModelAsked) -> AutoMeasured:
    found: dict[str, list[AnsweredTwice]] = {}
    thresholds: dict[str, AutoThreshold] = {}
    for tenant in tenants:
        both = await _in_both_modes(tenant, model)
        first = len(tenant.tuning)
        golds = [Gold(c.id, c.category) for c in tenant.tuning]
        tuned = tuned_on(golds, {mode: answers[:first] for mode, answers in both.items()})
        thresholds[tenant.name] = tuned.threshold
        found[tenant.name] = _pairs(tenant, {mode: answers[first:] for mode, answers in both.items()}, tuned)
    every = [one for those in found.values() for one in those]
    return AutoMeasured(
        errored=sum(len(tenant.asked) for tenant in tenants) - len(every),
        tuned_on={name: one.n for name, one in thresholds.items()},
        thresholds=thresholds,
        by_tenant={name: measures_of(those) for name, those in found.items()},
        together=measures_of(every),
    )


def measures_of(answered: Sequence[AnsweredTwice]) -> AutoMeasures:
    fast, reasoned, auto = (
        [is_right(getattr(one, mode), one.gold) for one in answered] for mode in ("fast", "reasoned", "auto")
    )
    over_fast, over_reasoned = _over(auto, fast), _over(auto, reasoned)
    return AutoMeasures(
        fast=rate(sum(fast), len(fast)),
        reasoned=rate(sum(reasoned), len(reasoned)),
        auto=rate(sum(auto), len(auto)),
        over_fast=over_fast,
        over_reasoned=over_reasoned,
        over_best=over_fast if sum(fast) >= sum(reasoned) else over_reasoned,
        asked_again=rate(sum(not one.sure for one in answered), len(answered)),
        tokens_reasoned=_written([(one.reasoned,) for one in answered]),
        tokens_auto=_written([one.asked for one in answered]),
    )


def table(found: AutoMeasured) -> Table:
    columns = {**found.by_tenant, "together": found.together}
    shown = Table("", *columns)
    shown.add_row("n", *(str(one.auto.n) for one in columns.values()))
    for name in AutoMeasures.model_fields:
        shown.add_row(name.replace("_", " "), *(_cell(getattr(one, name)) for one in columns.values()))
    return shown


async def _in_both_modes(tenant: TenantSample, model: ModelAsked) -> dict[Mode, list[Measured]]:
    """What it is tuned by comes first."""
    questions = _questions(tenant.schema, [*tenant.tuning, *tenant.asked], tenant.name)
    return {
        mode: (await model.asked(questions, model.plain(mode, tenant.name), mode)).measured for mode in Mode
    }


def _questions(schema: CategorySchema, conversations: Sequence[Conversation], title: str) -> Questions:
    return Questions("", tuple(Question(schema, one) for one in conversations), title)


def _pairs(
    tenant: TenantSample, both: Mapping[Mode, Sequence[Measured]], tuned: Tuned
) -> list[AnsweredTwice]:
    return [
        AnsweredTwice(
            conversation.category, fast.prediction, reasoned.prediction, tuned.sure(fast.prediction)
        )
        for conversation, fast, reasoned in zip(
            tenant.asked, both[Mode.fast], both[Mode.reasoned], strict=True
        )
        if fast.prediction is not None and reasoned.prediction is not None
    ]


def _written(asked: Sequence[tuple[Prediction, ...]]) -> Measure:
    """Tokens of an answer, of those that the server has counted."""
    counts = [usage(those)["completion_tokens"] for those in asked]
    return mean([float(count) for count in counts if count is not None])


def _over(one: Sequence[bool], other: Sequence[bool]) -> Measure:
    return paired_difference([int(a) - int(b) for a, b in zip(one, other, strict=True)])


def _cell(one: Measure) -> str:
    """Of a share, or of a count of tokens."""
    return with_interval(one, digits=1 if abs(one.value or 0.0) > 1 else 3)
