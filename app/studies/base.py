"""What a base can do as it stands: asked through vLLM, with reasons and at once, before a tenant's first label.

A forced read is no readable answer: the model did not write it of its own accord. Intervals are Wilson's at 95 %; four
utterances share a drawing of unseen intents, which the intervals do not know.
"""

import asyncio
from collections import defaultdict
from functools import partial
from typing import NamedTuple

from rich.table import Table

from app.cli.console import Progress
from app.serving.base import ModelBase
from app.serving.vllm import BASE_NAME, VllmEndpoint, while_alive
from app.settings import Settings
from app.studies.base_items import TENANT, BaseItems, Item
from app.studies.held_out import counting, in_order
from app.studies.serving import served
from app.studies.tables import with_interval
from evaluation.contract.mode import Mode
from evaluation.contract.render import render
from evaluation.contract.score import Given, given
from evaluation.inference.predictor import Codes, Prediction, VllmPredictor, load_codes
from evaluation.metrics.measures import Measure, rate
from training.teachers.privileged import Hint, HintKind, with_hint

Measured = dict[str, dict[str, Measure]]  # by mode, by what was asked
MODES = (Mode.reasoned, Mode.fast)


class AnswerRead(NamedTuple):
    """given: the answer; readable: whether the model itself wrote a code of the schema."""

    given: Given
    readable: bool


def measure(asked: BaseItems, base: ModelBase, settings: Settings, progress: Progress) -> Measured:
    codes = load_codes(base.folder, max(len(item.schema.answers) for item in asked.items))
    with served(base, settings, progress) as vllm:
        work = _all(asked, codes, vllm.endpoint, settings, progress)
        return asyncio.run(while_alive(vllm, work))


def table(measured: Measured) -> Table:
    shown = Table("asked of the base", *measured, "n")
    for name in next(iter(measured.values())):
        cells = [with_interval(of_mode[name]) for of_mode in measured.values()]
        shown.add_row(name, *cells, str(next(iter(measured.values()))[name].n))
    return shown


def as_json(measured: Measured) -> dict[str, dict[str, object]]:
    """With the tenants together under `tenants`."""
    shown: dict[str, dict[str, object]] = {}
    for mode, of_mode in measured.items():
        plain: dict[str, object] = {}
        tenants: dict[str, object] = {}
        for name, one in of_mode.items():
            into, key = (tenants, name.removeprefix(TENANT)) if name.startswith(TENANT) else (plain, name)
            into[key] = one.model_dump()
        shown[mode] = plain | {"tenants": tenants}
    return shown


async def _all(
    asked: BaseItems, codes: Codes, endpoint: VllmEndpoint, settings: Settings, progress: Progress
) -> Measured:
    measured: Measured = {}
    async with endpoint.async_client() as client:
        for mode in MODES:
            predictor = VllmPredictor(client, BASE_NAME, codes, mode=mode, concurrency=settings.concurrency)
            shown = counting(progress, f"asked, {mode.value}", len(asked.items))
            answers = await in_order(asked.items, partial(_answer, predictor), settings.concurrency, shown)
            progress.end(f"asked, {mode.value}")
            measured[mode.value] = _measures(asked, answers)
    return measured


async def _answer(predictor: VllmPredictor, item: Item) -> AnswerRead:
    found = await _predicted(predictor, item)
    readable = found.failure is None and not found.forced_read
    return AnswerRead(given(found), readable)


async def _predicted(predictor: VllmPredictor, item: Item) -> Prediction:
    if item.told is None:
        return await predictor.predict(item.schema, item.conversation)
    prompt = render(item.schema, item.conversation, predictor.codes)
    code = prompt.codes[item.schema.answers.index(item.gold)]
    hinted = with_hint(prompt, Hint(HintKind.criterion, code, item.told, ""))
    return await predictor.answer(prompt._replace(messages=hinted), item.schema, item.conversation)


def _measures(asked: BaseItems, answers: list[AnswerRead]) -> dict[str, Measure]:
    right: dict[str, list[bool]] = defaultdict(list)
    for item, answer in zip(asked.items, answers, strict=True):
        for part in item.parts:
            right[part].append(answer.given == item.gold)
    found = {part: rate(sum(of_part), len(of_part)) for part, of_part in right.items()}
    alike = sum(answers[one].given == answers[two].given for one, two in asked.twins)
    found["reworded_agreement"] = rate(alike, len(asked.twins))
    plain = [answer for item, answer in zip(asked.items, answers, strict=True) if item.told is None]
    found["readable"] = rate(sum(answer.readable for answer in plain), len(plain))
    return dict(sorted(found.items()))
