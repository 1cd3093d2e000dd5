"""What the modes cost and what they are worth: the same suite asked in each of them, of one model, in one run.

Temperatures and auto's threshold are found on the calibration split, as a gate finds them; all that is reported was
asked of the test split. Each mode has a prefix cache of its own, so that none is fast because of the one before it.
"""

import asyncio
import random
import tempfile
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
from app.serving.vllm import BASE_NAME, serving, while_alive
from app.settings import Settings
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
from evaluation.metrics.measures import Judgement, Measure
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


class _Tuned(NamedTuple):
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
    drawn = sorted(inputs.splits[Split.calibration], key=lambda c: c.id)
    wanted = min(len(drawn), int(asked.items * auxiliary.CALIBRATION_SHARE))
    tuning = CalibrationSet(schema, tuple(random.Random(asked.seed).sample(drawn, wanted)))
    adapter = None if trained is None else trained.folder / trained.note.adapter
    return ModesBench(base, adapter, suite, tuning, codes)


def measure(place: ModesBench, settings: Settings, progress: Progress) -> ModesMeasured:
    with tempfile.TemporaryDirectory(prefix="steerwise-bench-", ignore_cleanup_errors=True) as folder:
        waiting = lambda _passed: progress.update("start vLLM", 0, None)  # noqa: E731
        with serving(place.base.folder, Path(folder) / "vllm.log", settings, waiting) as vllm:
            progress.end("start vLLM")
            name = BASE_NAME if place.adapter is None else vllm.load(place.adapter)
            return asyncio.run(
                while_alive(vllm, _measured(place, vllm.endpoint.async_client(), name, progress))
            )


async def _measured(
    place: ModesBench, connection: httpx.AsyncClient, name: str, progress: Progress
) -> ModesMeasured:
    async with connection as client:
        return await compare(place, client, name, progress)


async def compare(
    place: ModesBench, client: httpx.AsyncClient, name: str, progress: Progress, concurrency: int = 32
) -> ModesMeasured:
    """name: of the model at the server."""

    def predictor(mode: ModeChoice, tuned: _Tuned | None = None) -> Predictor:
        def one(mode_asked: Mode) -> VllmPredictor:
            sending = Sending(cache_salt=f"{mode}-{tuned is None}")
            return VllmPredictor(
                client, name, place.codes, sending=sending, mode=mode_asked, concurrency=concurrency
            )

        if tuned is None or mode is not ModeChoice.auto:
            return one(mode.modes[-1])
        return AutoPredictor(one(Mode.fast), one(Mode.reasoned), tuned.sure)

    async def asked(questions: Questions, mode: ModeChoice, tuned: _Tuned | None = None) -> _Asked:
        what = f"{mode}, {questions.title or 'suite'}"
        shown = partial(progress.update, what)
        start = time.perf_counter()
        measured = await runner.run(
            questions, predictor(mode, tuned), model=name, concurrency=concurrency, progress=shown
        )
        progress.end(what)
        return _Asked(measured, time.perf_counter() - start)

    tuning = place.calibration.questions
    tuned = _tuned(place, {mode: (await asked(tuning, ModeChoice(mode))).measured for mode in Mode})
    found = {mode: await asked(place.suite.questions, mode, tuned) for mode in ModeChoice}
    return _assembled(place, name, tuned, found)


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


def _tuned(place: ModesBench, answered: Mapping[Mode, Sequence[Measured]]) -> _Tuned:
    golds = [Gold(c.id, c.category) for c in place.calibration.conversations]
    fitted = {mode: calibrator.fit(calibrator.reads(golds, found).each) for mode, found in answered.items()}
    temperatures = {
        mode: one.temperature if one.method == "temperature" else None for mode, one in fitted.items()
    }
    found = auto_threshold.fit(golds, answered[Mode.fast], answered[Mode.reasoned], temperatures[Mode.fast])
    return _Tuned(temperatures, found)


def _assembled(
    place: ModesBench, name: str, tuned: _Tuned, found: Mapping[ModeChoice, _Asked]
) -> ModesMeasured:
    judged = {
        mode: Judgement(place.suite, sample_scores.sample_scores(one.measured)) for mode, one in found.items()
    }
    plain = {
        mode: measures.accuracy(judged[mode].natural).value or 0.0 for mode in ModeChoice if mode in _PLAIN
    }
    best = judged[max(plain, key=plain.__getitem__)]
    return ModesMeasured(
        tenant=place.suite.schema.name,
        model=place.base.name if place.adapter is None else name,
        conversations=len(place.suite.conversations),
        calibration_n=len(place.calibration.conversations),
        temperatures={mode.value: value for mode, value in tuned.temperatures.items()},
        threshold=tuned.threshold,
        modes={mode.value: _of_mode(place, tuned, one, judged[mode], best) for mode, one in found.items()},
    )


_PLAIN: Final = (ModeChoice.reasoned, ModeChoice.fast)


def _of_mode(
    place: ModesBench, tuned: _Tuned, asked: _Asked, judged: Judgement, best: Judgement
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


def _ece(suite: Suite, tuned: _Tuned, measured: Sequence[Measured]) -> Measure:
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
    if one.value is None:
        return "–"
    digits = 0 if abs(one.value) >= 10 else 3
    if one.ci95 is None:
        return f"{one.value:.{digits}f}"
    return f"{one.value:.{digits}f} ({one.ci95[0]:.{digits}f} to {one.ci95[1]:.{digits}f})"
