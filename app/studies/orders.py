"""Whether the order of the options decides: the base as it stands asked the same under several, without an edit.

Each conversation is asked under some random orders, and each of those is begun at several places, as `orders` of the
decision wires does. So one read of an order can be compared with the mean of several: how often the answer is another
one under another order, and how often it is right.
"""

import asyncio
import random
from collections.abc import Sequence
from functools import partial
from itertools import combinations
from statistics import fmean
from typing import NamedTuple

import httpx
import numpy as np
from pydantic import BaseModel
from rich.table import Table

from app.cli.console import Progress
from app.serving.base import ModelBase
from app.serving.vllm import BASE_NAME, while_alive
from app.settings import Settings
from app.studies.held_out import counting, in_order
from app.studies.samples import TenantSample
from app.studies.serving import served
from app.studies.tables import with_interval
from evaluation.contract.mode import Mode
from evaluation.contract.record import Conversation
from evaluation.contract.schema import CategorySchema
from evaluation.inference.predictor import Prediction, PredictorError, VllmPredictor, load_codes
from evaluation.metrics import statistics
from evaluation.metrics.measures import Measure, mean_difference
from evaluation.metrics.statistics import SHARE, clustered_interval


class OrdersRequest(NamedTuple):
    """shuffles: random orders that are compared. places: at which each is begun, to be averaged; a power of two."""

    tenants: list[TenantSample]
    shuffles: int
    places: int
    mode: Mode
    seed: int


class Averaged(BaseModel):
    """Of answers that are each the mean of `orders` reads. n: conversations.

    changed: of two random orders, how often the answer is another one. ever_changed: conversations that are not
    answered alike under all of them. gain: accuracy minus that of one read.
    """

    orders: int
    changed: Measure
    ever_changed: Measure
    accuracy: Measure
    gain: Measure


class OrdersMeasured(BaseModel):
    """first, last: of answers by one read that name a category, the share whose category stood first, or last; even:
    what it would be where places say nothing; None: nothing was answered. errored: conversations that are left out.
    …_tokens: of a read; None: the server did not count them."""

    mode: Mode
    shuffles: int
    errored: int
    first: Measure
    last: Measure
    even: float | None
    prompt_tokens: float | None
    cached_tokens: float | None
    by_tenant: dict[str, list[Averaged]]
    together: list[Averaged]


class _Read(NamedTuple):
    """schema: in the order that is shown. at: (shuffle, place)."""

    schema: CategorySchema
    conversation: Conversation
    at: tuple[int, int]


class ConversationReads(NamedTuple):
    """shares_SPA: of A answers, by shuffle and place, in the order of `answers`, the schema's own. shown: the keys of
    the categories in the order of each read."""

    tenant: str
    conversation: str
    answers: tuple[str | None, ...]
    gold: str | None
    shares_SPA: statistics.Floats
    shown: dict[tuple[int, int], tuple[str, ...]]

    @property
    def name(self) -> str:
        return f"{self.tenant}: {self.conversation}"


def measure(asked: OrdersRequest, base: ModelBase, settings: Settings, progress: Progress) -> OrdersMeasured:
    with served(base, settings, progress) as vllm:
        work = _asked(asked, base, vllm.endpoint.async_client(), settings, progress)
        return asyncio.run(while_alive(vllm, work))


async def _asked(
    asked: OrdersRequest, base: ModelBase, http: httpx.AsyncClient, settings: Settings, progress: Progress
) -> OrdersMeasured:
    codes = load_codes(base.folder, max(len(one.schema.answers) for one in asked.tenants))
    async with http:
        predictor = VllmPredictor(http, BASE_NAME, codes, mode=asked.mode, concurrency=settings.concurrency)
        return await compare(asked, predictor, settings.concurrency, progress)


async def compare(
    asked: OrdersRequest, predictor: VllmPredictor, concurrency: int, progress: Progress
) -> OrdersMeasured:
    found: list[ConversationReads] = []
    read: list[Prediction] = []
    errored = 0
    for tenant in asked.tenants:
        reads = _reads(tenant, asked)
        shown = counting(progress, f"{tenant.name}, {asked.mode.value}", len(reads))
        answers = await in_order(reads, partial(_answer, predictor), concurrency, shown)
        progress.end(f"{tenant.name}, {asked.mode.value}")
        of_tenant = _by_conversation(tenant, reads, answers, asked)
        errored += len(tenant.asked) - len(of_tenant)
        found += of_tenant
        read += [one for one in answers if one is not None]
    return _assembled(asked, found, read, errored)


def table(found: OrdersMeasured) -> Table:
    shown = Table("", "orders averaged", "changed", "ever changed", "accuracy", "gain", "n")
    for name, rows in {**found.by_tenant, "together": found.together}.items():
        for row in rows:
            cells = [with_interval(one) for one in (row.changed, row.ever_changed, row.accuracy, row.gain)]
            shown.add_row(name if row is rows[0] else "", str(row.orders), *cells, str(row.accuracy.n))
    shown.caption = (
        f"{found.shuffles} random orders, mode {found.mode}; of answers by one read {with_interval(found.first)} "
        f"stood first and {with_interval(found.last)} last"
        + ("" if found.even is None else f" ({found.even:.3f} where places say nothing)")
    )
    return shown


def orders_of(schema: CategorySchema, shuffles: int, places: int, seed: int) -> list[list[CategorySchema]]:
    """By shuffle and place: the categories in a random order, and that order begun at other places."""
    rng = random.Random(f"orders-{seed}")
    found = []
    for _ in range(shuffles):
        order = rng.sample(schema.categories, len(schema.categories))
        starts = [place * len(order) // places for place in range(places)]
        found.append([schema.model_copy(update={"categories": (*order[at:], *order[:at])}) for at in starts])
    return found


def averaged(
    found: Sequence[ConversationReads], count: int, single: Sequence[float] | None = None
) -> tuple[Averaged, list[float]]:
    """Over `count` places of each shuffle, as far apart as they are; and how often each conversation was answered
    rightly. single: that, by one read."""
    changed, ever, right = [], [], []
    for one in found:
        step = one.shares_SPA.shape[1] // count
        chosen = [one.answers[at] for at in one.shares_SPA[:, ::step].mean(axis=1).argmax(axis=1)]
        pairs = [a != b for a, b in combinations(chosen, 2)]
        changed.append(fmean(pairs))
        ever.append(float(any(pairs)))
        right.append(fmean(answer == one.gold for answer in chosen))
    names = [one.name for one in found]
    gained = [now - before for now, before in zip(right, single or right, strict=True)]
    made = Averaged(
        orders=count,
        changed=_share(names, changed),
        ever_changed=_share(names, ever),
        accuracy=_share(names, right),
        gain=mean_difference(names, gained),
    )
    return made, right


def _reads(tenant: TenantSample, asked: OrdersRequest) -> list[_Read]:
    """Order by order, so that the model server reads each once."""
    return [
        _Read(schema, conversation, (shuffle, place))
        for shuffle, schemas in enumerate(orders_of(tenant.schema, asked.shuffles, asked.places, asked.seed))
        for place, schema in enumerate(schemas)
        for conversation in tenant.asked
    ]


async def _answer(predictor: VllmPredictor, read: _Read) -> Prediction | None:
    """None where there is no answer, or not all of its probabilities."""
    try:
        found = await predictor.predict(read.schema, read.conversation)
    except PredictorError:
        return None
    whole = found.probabilities is not None and len(found.probabilities) == len(read.schema.answers)
    return found if whole else None


def _by_conversation(
    tenant: TenantSample, reads: Sequence[_Read], answers: Sequence[Prediction | None], asked: OrdersRequest
) -> list[ConversationReads]:
    order = tenant.schema.answers
    shares = {c.id: np.full((asked.shuffles, asked.places, len(order)), np.nan) for c in tenant.asked}
    shown = {read.at: tuple(read.schema.keys) for read in reads}
    for read, answer in zip(reads, answers, strict=True):
        if answer is not None and answer.probabilities is not None:
            shares[read.conversation.id][read.at] = [answer.probabilities[one] for one in order]
    return [
        ConversationReads(tenant.name, c.id, order, c.category, shares[c.id], shown)
        for c in tenant.asked
        if not np.isnan(shares[c.id]).any()
    ]


def _assembled(
    asked: OrdersRequest, found: Sequence[ConversationReads], read: Sequence[Prediction], errored: int
) -> OrdersMeasured:
    by_tenant = {
        tenant.name: _rows([one for one in found if one.tenant == tenant.name], asked.places)
        for tenant in asked.tenants
    }
    return OrdersMeasured(
        mode=asked.mode,
        shuffles=asked.shuffles,
        errored=errored,
        first=_standing(found, 0),
        last=_standing(found, -1),
        even=fmean(1 / len(one.shown[0, 0]) for one in found) if found else None,
        prompt_tokens=_mean([one.prompt_tokens for one in read]),
        cached_tokens=_mean([one.cached_tokens for one in read]),
        by_tenant=by_tenant,
        together=_rows(found, asked.places),
    )


def _rows(found: Sequence[ConversationReads], places: int) -> list[Averaged]:
    if not found:
        return []
    first, single = averaged(found, 1)
    counts = [2**power for power in range(1, places.bit_length())]
    return [first, *(averaged(found, count, single)[0] for count in counts)]


def _standing(found: Sequence[ConversationReads], place: int) -> Measure:
    terms = []
    for one in found:
        answers = {at: one.answers[int(one.shares_SPA[at].argmax())] for at in one.shown}
        named = [at for at, answer in answers.items() if answer is not None]
        terms.append([sum(answers[at] == one.shown[at][place] for at in named), len(named)])
    return _ratio([one.name for one in found], terms)


def _share(names: Sequence[str], values: Sequence[float]) -> Measure:
    return _ratio(names, [[value, 1.0] for value in values])


def _ratio(names: Sequence[str], terms: Sequence[Sequence[float]]) -> Measure:
    """n: conversations, by which it is resampled."""
    terms_I2 = np.array(terms, dtype=np.float64).reshape(-1, 2)
    interval = clustered_interval(names, terms_I2, statistics.ratio, ends=SHARE)
    hits, whole = terms_I2.sum(axis=0)
    return Measure(value=float(hits / whole) if whole else None, n=len(names), ci95=interval)


def _mean(counts: Sequence[int | None]) -> float | None:
    known = [count for count in counts if count is not None]
    return fmean(known) if known else None
