"""The trained arms of a seed, asked at a vLLM of their own: each tenant's evaluation, and what they must not lose."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from pydantic import BaseModel

from app.cli.console import Progress, evaluating
from app.gates import evaluation
from app.gates.evaluation import NOT_ASKED_FOR, GateEvaluation
from app.runs.inputs import Inputs
from app.runs.presets import Benchmark
from app.serving import adapters
from app.serving.adapters import Adapter
from app.serving.base import codes_for, digest
from app.serving.vllm import BASE_NAME, VllmEndpoint, VllmProcess, serving, while_alive
from app.settings import Settings
from app.studies import knowledge, retained
from app.studies.asking import likeliest
from app.studies.held_out import SAMPLES, Samples, counting, longest, pass_at_k, several
from app.studies.kept_answers import AnswersFile
from app.studies.knowledge import Knowledge
from app.studies.paired import ArmAnswers, Values, differences, measure_of
from app.studies.preparing import PreparedStudy
from app.studies.results import (
    BASE_ARM,
    EVERYDAY,
    KL_TO_BASE,
    MEASURES,
    RETENTION,
    SHOWN,
    UNSEEN,
    StudyPoint,
)
from app.studies.serving import ANSWER_TIMEOUT_S
from app.studies.subjects import retention_items
from evaluation.contract.record import Conversation, Split
from evaluation.gating.policy import load_policy
from evaluation.inference.predictor import Codes, VllmPredictor, load_codes
from evaluation.inference.stage_client import ServedStage
from evaluation.metrics.measures import GradedAnswers, Measure
from evaluation.metrics.sample_scores import restore
from evaluation.reporting.report import Report, StageReport
from training.protocol import ADAPTER

T = TypeVar("T")
A = TypeVar("A", bound=BaseModel)


class StageMeasures(NamedTuple):
    """points: of the base its only one, of an arm one for each of its steps. over: at its end, to the arm that it is
    compared with."""

    points: list[StudyPoint]
    pass_at_k: list[float]
    over: dict[str, Measure]


class _Measured(NamedTuple):
    """By the name of what is served. counted: families of edits."""

    points: dict[str, StudyPoint]
    answers: dict[str, ArmAnswers]
    counted: tuple[str, ...]
    pass_at_k: dict[str, list[float]]


def measure(prepared: PreparedStudy, settings: Settings, progress: Progress) -> dict[str, StageMeasures]:
    """By arm."""
    place, models = prepared.place, _models(prepared)
    frozen = {
        name: adapters.freeze(out / ADAPTER, place.folder / "adapters", settings.vllm_max_lora_rank)
        for of_arm in models.values()
        for name, out in of_arm.items()
    }
    fitting = settings.model_copy(
        update={
            "vllm_max_lora_rank": max(adapter.rank for adapter in frozen.values()),
            "vllm_max_adapters": len({adapter.sha256 for adapter in frozen.values()}),
        }
    )
    title = f"{place.title}: start vLLM"
    with serving(
        place.base.folder, place.folder / "vllm.log", fitting, lambda _passed: progress.update(title, 0, None)
    ) as vllm:
        progress.end(title)
        served = [ServedStage(BASE_ARM, BASE_NAME, digest(place.base)), *_loaded(vllm, frozen)]
        asking = _Asking(prepared, vllm.endpoint, served, fitting, progress)
        made = asyncio.run(while_alive(vllm, asking.everything()))
    names = {arm: list(of_arm) or [BASE_ARM] for arm, of_arm in models.items()}
    other = made.answers[names[prepared.study.against][-1]]
    return {
        arm: StageMeasures(
            [made.points[n] for n in of],
            made.pass_at_k.get(of[-1], []),
            differences(made.answers[of[-1]], other, made.counted) if arm != prepared.study.against else {},
        )
        for arm, of in names.items()
    }


def _models(prepared: PreparedStudy) -> dict[str, dict[str, Path]]:
    """By arm: the stages after which it is measured, under the names that they are shown by."""
    return {
        arm: {
            f"{arm}, step {number}" if len(chain.steps) > 1 else arm: manifest.out
            for number, manifest in enumerate(chain.steps, start=1)
        }
        for arm, chain in prepared.chains.items()
    }


def _loaded(vllm: VllmProcess, frozen: dict[str, Adapter]) -> list[ServedStage]:
    """Arms that came to the very same weights share an adapter."""
    there: dict[str, str] = {}
    for adapter in frozen.values():
        if adapter.sha256 not in there:
            there[adapter.sha256] = vllm.load(adapter.folder)
    return [
        ServedStage(name, there[adapter.sha256], adapter.sha256, adapter.folder)
        for name, adapter in frozen.items()
    ]


class _Asking(NamedTuple):
    prepared: PreparedStudy
    endpoint: VllmEndpoint
    served: list[ServedStage]
    settings: Settings
    progress: Progress

    async def everything(self) -> _Measured:
        study = self.prepared.study
        names = [one.stage for one in self.served]
        reports = [await self._evaluated(one) for one in self.prepared.tenants if study.suite_items]
        values = await self._retention()
        for name, of in (await self._others()).items():
            values[name] |= of
        points = {name: _point(name, reports, values[name]) for name in names}
        graded = [_graded(report) for report in reports]
        answers = {name: ArmAnswers([of[name] for of in graded], values[name]) for name in names}
        counted = reports[0].counted if reports else ()
        return _Measured(points, answers, counted, await self._pass_at_k() if study.pass_items else {})

    async def _evaluated(self, inputs: Inputs) -> Report:
        """On a tenant's held-out conversations, under its own schema and under edits of it."""
        study, place = self.prepared.study, self.prepared.place
        suite = evaluation.suite_of(inputs, Benchmark(max_items=study.suite_items, seed=place.seed))
        codes = codes_for(place.base.folder, inputs.schema).alone()
        at_once = load_policy().model_copy(
            update={"interim_looks": (1.0,)}
        )  # arms are compared on the same questions
        kept = place.folder / "benchmark"
        gate_evaluation = GateEvaluation(inputs, suite, None, at_once, codes, kept, NOT_ASKED_FOR)
        return await evaluation.evaluate(
            gate_evaluation, self.endpoint, self.served, self.settings, evaluating(self.progress)
        )

    async def _retention(self) -> dict[str, dict[str, Values]]:
        place = self.prepared.place
        study = self.prepared.study
        items = retention_items(tuple(study.sources.values()), study.retention_items, place.seed)
        codes = load_codes(place.base.folder, longest(items)).alone()
        found = await self._each("retention", codes, items, retained.under_schema, retained.RetainedAnswer)
        return {name: {RETENTION: retained.rightly_answered(items, of)} for name, of in found.items()}

    async def _others(self) -> dict[str, dict[str, Values]]:
        found: dict[str, dict[str, Values]] = {one.stage: {} for one in self.served}
        if self.prepared.study.everyday:
            for name, values in (await self._everyday()).items():
                found[name] |= values
        if self.prepared.known is not None:
            for name, values in (await self._known(self.prepared.known)).items():
                found[name] |= values
        return found

    async def _everyday(self) -> dict[str, dict[str, Values]]:
        codes, sentences = load_codes(self.prepared.place.base.folder, 2), retained.sentences()
        ended = await self._each("sentences", codes, sentences, retained.ends, retained.Ends)
        async with self.endpoint.async_client(ANSWER_TIMEOUT_S) as client:
            drawing = partial(retained.drawn_words, VllmPredictor(client, BASE_NAME, codes))
            what, prompts = f"prompts-{retained.DRAWN_TOKENS}", retained.everyday_prompts()
            drawn = await self._each(what, codes, prompts, drawing, retained.RetainedWords)
        return {
            name: {
                EVERYDAY: retained.rightly_ended(sentences, of),
                KL_TO_BASE: retained.distances(drawn[name]),
            }
            for name, of in ended.items()
        }

    async def _known(self, known: Knowledge) -> dict[str, dict[str, Values]]:
        asked, codes = knowledge.questions(known), load_codes(self.prepared.place.base.folder, 2)
        tokens = self.prepared.study.answer_tokens
        found = await self._each(
            f"known-{tokens}", codes, asked, partial(_told, known, tokens, False), knowledge.ToldFact
        )
        base = self._replace(served=self.served[:1])
        shown = await base._each(
            f"known-{tokens}-shown", codes, asked, partial(_told, known, tokens, True), knowledge.ToldFact
        )
        told = {name: dict[str, Values](knowledge.rightly_told(asked, of)) for name, of in found.items()}
        for kind, right in knowledge.rightly_told(asked, shown[BASE_ARM]).items():
            told[BASE_ARM][kind + SHOWN] = right
        return told

    async def _pass_at_k(self) -> dict[str, list[float]]:
        (inputs,) = self.prepared.tenants
        own = [c for c in inputs.splits[Split.test] if c.labelled][: self.prepared.study.pass_items]
        codes = codes_for(self.prepared.place.base.folder, inputs.schema).alone()

        async def ask(predictor: VllmPredictor, conversation: Conversation) -> Samples:
            return await several(predictor, inputs.schema, conversation)

        at_once = max(1, self.settings.concurrency // SAMPLES)
        found = await self._each("pass@k", codes, own, ask, Samples, at_once)
        return {name: pass_at_k(inputs.schema, codes.texts, own, of) for name, of in found.items()}

    async def _each(
        self,
        what: str,
        codes: Codes,
        questions: Sequence[T],
        ask: Callable[[VllmPredictor, T], Awaitable[A]],
        kind: type[A],
        concurrency: int | None = None,
    ) -> dict[str, list[A]]:
        """Every answer, by the name of what is served. They are kept, with their words."""
        place, found = self.prepared.place, dict[str, list[A]]()
        async with self.endpoint.async_client(ANSWER_TIMEOUT_S) as client:
            for one in self.served:
                title = f"{what} {one.stage}"
                predictor = VllmPredictor(client, one.model, codes)
                kept = AnswersFile(place.folder / "answers", what, f"{digest(place.base)} {one.version}")
                found[one.stage] = await kept.of(
                    questions,
                    partial(ask, predictor),
                    kind,
                    concurrency or self.settings.concurrency,
                    counting(self.progress, title, len(questions)),
                )
                self.progress.end(title)
        return found


async def _told(
    known: Knowledge, tokens: int, shown: bool, predictor: VllmPredictor, question: knowledge.FactQuestion
) -> knowledge.ToldFact:
    """shown: the base is, what a document says of it: how much there is to be taught."""
    asked = knowledge.shown(known, question) if shown else knowledge.messages(known, question.text)
    said = await likeliest(predictor, asked, tokens)
    return knowledge.ToldFact(id=question.id, text=said)


def _point(name: str, reports: Sequence[Report], values: dict[str, Values]) -> StudyPoint:
    stages = [_stage(report, name) for report in reports]
    measured = {what: measure_of(of) for what, of in values.items()}
    return StudyPoint(
        tasks=[_measures(stage) for stage in stages],
        retention=measured.pop(RETENTION),
        families=[_by_family(stage) for stage in stages],
        others=measured,
    )


def _graded(report: Report) -> dict[str, GradedAnswers]:
    suite = restore(report.suite)
    return {
        stage.stage: GradedAnswers(suite, stage.sample_scores, report.threshold) for stage in report.stages
    }


def _stage(report: Report, name: str) -> StageReport:
    return next(stage for stage in report.stages if stage.stage == name)


def _measures(stage: StageReport) -> dict[str, Measure]:
    return {name: measure for name in MEASURES if (measure := getattr(stage, name)) is not None}


def _by_family(stage: StageReport) -> dict[str, Measure]:
    return {
        name if family.seen else f"{name} {UNSEEN}": family.steerability
        for name, family in stage.per_family.items()
    }
