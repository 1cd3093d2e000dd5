"""What the modes cost and what they are worth: the same suite asked in each of them, of one model, in one run.

Temperatures and auto's threshold are found where a gate finds them, on conversations that the suite has not seen. Each
mode has a prefix cache of its own, so that none is fast because of the one before it.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import httpx
from pydantic import BaseModel
from rich.table import Table

from app.cli.classify import Trained
from app.cli.console import Progress
from app.cli.files import read_file, read_schema
from app.errors import InputError
from app.runs.inputs import Inputs, check_lengths, placed
from app.serving.base import ModelBase, codes_for, context_of, digest, find_base, token_counter
from app.serving.model_folder import read as read_model
from app.serving.vllm import BASE_NAME, while_alive
from app.settings import Settings
from app.studies.serving import served
from app.studies.tables import with_interval
from evaluation.contract import overlap
from evaluation.contract.mode import Mode, ModeChoice
from evaluation.contract.record import Split
from evaluation.contract.schema import CategorySchema
from evaluation.gating.policy import load_policy
from evaluation.inference import runner
from evaluation.inference.auto import AutoPredictor
from evaluation.inference.predictor import Codes, Prediction, Predictor, Sending, VllmPredictor
from evaluation.inference.runner import Measured, Questions
from evaluation.metrics import auto_threshold, auxiliary, calibration, calibrator, measures, sample_scores
from evaluation.metrics.auto_threshold import AutoThreshold, is_sure
from evaluation.metrics.auxiliary import CalibrationSet
from evaluation.metrics.calibrator import Calibrator, Gold
from evaluation.metrics.measures import GradedAnswers, Measure
from evaluation.suites import steerability
from evaluation.suites.families import SuiteError
from evaluation.suites.steerability import Suite

AS_SHOWN: Final = Calibrator("none", 1.0, None, 0, (None,) * len(calibrator.WANTED), None)


class ModesRequest(NamedTuple):
    """model: of a run on files; None: the base as it stands. items: requests in each mode, those of the calibration
    split (at most a quarter of them) not counted."""

    schema: Path
    conversations: Path
    model: Path | None
    base: str
    items: int
    seed: int


class ModesBench(NamedTuple):
    """base: with the adapter in `adapter` on it, where there is one."""

    base: ModelBase
    adapter: Path | None
    suite: Suite
    calibration: CalibrationSet
    codes: Codes


class ModeMeasures(BaseModel):
    """Of the answers in one mode. tokens: a mean over the answers. asked_again: with reasoning, after fast was unsure.

    flip_accuracy, invariance: under edits of the definitions, as in a gate. ece: of calibrated confidences. over_best:
    accuracy minus that of the more accurate one of fast and reasoned, on the same conversations.
    """

    answers: int
    errored: int
    answers_per_s: float
    completion_tokens: Measure
    prompt_tokens: Measure
    asked_again: Measure
    accuracy: Measure
    over_best: Measure
    flip_accuracy: Measure
    invariance: Measure
    ece: Measure


class ModesMeasured(BaseModel):
    tenant: str
    model: str
    conversations: int
    calibration_n: int
    temperatures: dict[str, float | None]
    threshold: AutoThreshold
    modes: dict[str, ModeMeasures]


class _Asked(NamedTuple):
    measured: list[Measured]
    seconds: float


class Tuned(NamedTuple):
    """What the calibration split has told of both modes."""

    temperatures: Mapping[Mode, float | None]
    threshold: AutoThreshold

    def shown(self, found: Prediction) -> Prediction:
        return calibrator.applied(found, self.temperatures[found.mode])

    def sure(self, found: Prediction) -> bool:
        """Where too few conversations were there to find a threshold, everything is asked again."""
        least = 1.0 if self.threshold.value is None else self.threshold.value
        return is_sure(self.shown(found), least)


def prepared(asked: ModesRequest, settings: Settings, progress: Progress) -> ModesBench:
    """Raises: InputError."""
    schema = read_schema(asked.schema)
    trained = None if asked.model is None else Trained(*read_model(asked.model))
    base = find_base(asked.base if trained is None else trained.note.base, settings.home, progress.note)
    if trained is not None and digest(base) != trained.note.base_sha256:
        raise InputError(f"the model was trained on another {base.name} than the one in {base.folder}")
    inputs = _inputs(schema, asked.conversations)
    codes = codes_for(base.folder, schema)
    check_lengths(inputs, codes.texts, token_counter(base.folder), context_of(base.folder, settings))
    try:
        suite = steerability.build(schema, inputs.splits[Split.test], seed=asked.seed, max_items=asked.items)
    except SuiteError as error:
        raise InputError(str(error)) from None
    held_out, drawn = inputs.splits[Split.test], inputs.splits[Split.calibration]
    tuning = auxiliary.calibration_set(suite, held_out, drawn, seed=asked.seed, max_items=asked.items)
    adapter = None if trained is None else trained.folder / trained.note.adapter
    return ModesBench(base, adapter, suite, tuning, codes.beside(adapter))


def measure(place: ModesBench, settings: Settings, progress: Progress) -> ModesMeasured:
    with served(place.base, settings, progress) as vllm:
        name = BASE_NAME if place.adapter is None else vllm.load(place.adapter)
        asking = _asking(place, vllm.endpoint.async_client(), name, progress)
        return asyncio.run(while_alive(vllm, asking))


async def _asking(place: ModesBench, http: httpx.AsyncClient, name: str, progress: Progress) -> ModesMeasured:
    async with http:
        return await compare(place, ModelAsked(http, name, place.codes, progress))


async def compare(place: ModesBench, model: "ModelAsked") -> ModesMeasured:
    tuning = place.calibration.questions
    golds = [Gold(c.id, c.category) for c in place.calibration.conversations]
    tuned = tuned_on(
        golds,
        {mode: (await model.asked(tuning, model.plain(mode, "tuning"), mode)).measured for mode in Mode},
    )
    found: dict[ModeChoice, _Asked] = {}
    for mode in ModeChoice:
        predictor: Predictor = model.plain(mode.modes[-1], mode)
        if mode is ModeChoice.auto:
            predictor = AutoPredictor(
                model.plain(Mode.fast, mode), model.plain(Mode.reasoned, mode), tuned.sure
            )
        found[mode] = await model.asked(place.suite.questions, predictor, mode)
    return _assembled(place, model.name, tuned, found)


class ModelAsked(NamedTuple):
    """name: at the server."""

    http: httpx.AsyncClient
    name: str
    codes: Codes
    progress: Progress
    concurrency: int = 32

    def plain(self, mode: Mode, cache: str) -> VllmPredictor:
        """cache: prefixes are shared within it alone."""
        sending = Sending(cache_salt=f"{cache}-{mode}")
        return VllmPredictor(
            self.http, self.name, self.codes, sending=sending, mode=mode, concurrency=self.concurrency
        )

    async def asked(self, questions: Questions, predictor: Predictor, mode: str) -> _Asked:
        what = f"{mode}, {questions.title or 'suite'}"
        start = time.perf_counter()
        measured = await runner.run(
            questions,
            predictor,
            model=self.name,
            concurrency=self.concurrency,
            progress=partial(self.progress.update, what),
        )
        self.progress.end(what)
        return _Asked(measured, time.perf_counter() - start)


def table(found: ModesMeasured) -> Table:
    names = (
        "accuracy",
        "over_best",
        "flip_accuracy",
        "invariance",
        "ece",
        "completion_tokens",
        "prompt_tokens",
    )
    shown = Table("", *found.modes)
    shown.add_row("answers a second", *(f"{one.answers_per_s:.2f}" for one in found.modes.values()))
    for name in (*names, "asked_again"):
        cells = [_cell(getattr(one, name)) for one in found.modes.values()]
        shown.add_row(name.replace("_", " "), *cells)
    return shown


def _inputs(schema: CategorySchema, file: Path) -> Inputs:
    """Whatever is there of the splits that are asked; nothing is trained here. Raises: InputError."""
    labelled = [c for c in read_file(file, schema).conversations if c.labelled]
    splits, _ = overlap.judgeable(placed(labelled))
    asked = {split: splits[split] if split in overlap.HELD_OUT else [] for split in Split}
    if not asked[Split.test]:
        raise InputError(
            f"{file} has no labelled conversation of the split {Split.test}, which is what is asked"
        )
    return Inputs(schema, asked, ())


def tuned_on(golds: Sequence[Gold], answered: Mapping[Mode, Sequence[Measured]]) -> Tuned:
    """answered: in each mode, to the conversations of the golds, in their order."""
    fitted = {mode: calibrator.fit(calibrator.reads(golds, found).each) for mode, found in answered.items()}
    temperatures = {
        mode: one.temperature if one.method == "temperature" else None for mode, one in fitted.items()
    }
    found = auto_threshold.fit(golds, answered[Mode.fast], answered[Mode.reasoned], temperatures[Mode.fast])
    return Tuned(temperatures, found)


def _assembled(
    place: ModesBench, name: str, tuned: Tuned, found: Mapping[ModeChoice, _Asked]
) -> ModesMeasured:
    judged = {
        mode: GradedAnswers(place.suite, sample_scores.sample_scores(one.measured))
        for mode, one in found.items()
    }
    best = max(
        (judged[ModeChoice(mode)] for mode in Mode), key=lambda one: measures.accuracy(one.natural).value or 0
    )
    return ModesMeasured(
        tenant=place.suite.schema.name,
        model=place.base.name if place.adapter is None else name,
        conversations=len(place.suite.conversations),
        calibration_n=len(place.calibration.conversations),
        temperatures={mode.value: value for mode, value in tuned.temperatures.items()},
        threshold=tuned.threshold,
        modes={mode.value: _of_mode(place, tuned, one, judged[mode], best) for mode, one in found.items()},
    )


def _of_mode(
    place: ModesBench, tuned: Tuned, asked: _Asked, judged: GradedAnswers, best: GradedAnswers
) -> ModeMeasures:
    answers = [m.prediction for m in asked.measured if m.prediction is not None]
    rows = judged.rows(load_policy().families.counted)
    return ModeMeasures(
        answers=len(answers),
        errored=len(asked.measured) - len(answers),
        answers_per_s=len(answers) / asked.seconds,
        completion_tokens=_mean([one.completion_tokens for one in answers]),
        prompt_tokens=_mean([one.prompt_tokens for one in answers]),
        asked_again=measures.rate(sum(one.mode is Mode.reasoned for one in answers), len(answers)),
        accuracy=measures.accuracy(judged.natural),
        over_best=measures.gain(judged.natural, best.natural),
        flip_accuracy=measures.flip_accuracy(rows),
        invariance=measures.invariance(rows),
        ece=_ece(place.suite, tuned, asked.measured),
    )


def _ece(suite: Suite, tuned: Tuned, measured: Sequence[Measured]) -> Measure:
    golds = {
        i: Gold(item.conversation_id, item.gold_before) for i, item in enumerate(suite.items) if item.natural
    }
    shown = [
        m if m.prediction is None else m.model_copy(update={"prediction": tuned.shown(m.prediction)})
        for m in measured
        if m.item in golds
    ]
    return calibration.measure(AS_SHOWN, calibrator.reads(golds, shown).each).ece.after


def _mean(counts: Sequence[int | None]) -> Measure:
    return measures.mean([float(count) for count in counts if count is not None])


def _cell(one: Measure) -> str:
    """Of a share, or of a count of tokens."""
    return with_interval(one, digits=0 if abs(one.value or 0.0) >= 10 else 3)
