"""What is asked beside the suite: attacks, conversations turn by turn, schemas of others, how sure the answers are."""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from pydantic import BaseModel, ConfigDict

from evaluation.contract.mode import Mode
from evaluation.contract.record import Conversation
from evaluation.contract.schema import CategorySchema
from evaluation.contract.score import is_right
from evaluation.inference.runner import Measured, Question, Questions
from evaluation.inference.stage_client import StageClient
from evaluation.metrics import (
    auto_threshold,
    calibration,
    calibrator,
    injection,
    out_of_distribution,
    reasoning_length,
    sample_scores,
    turns,
)
from evaluation.metrics.auto_threshold import AutoThreshold
from evaluation.metrics.calibration import Calibration
from evaluation.metrics.calibrator import Gold
from evaluation.metrics.divergence import Divergence
from evaluation.metrics.injection import InjectionReport
from evaluation.metrics.out_of_distribution import OutOfDistributionReport
from evaluation.metrics.reasoning_length import MeasuredLength, ReasoningLength
from evaluation.metrics.turns import TurnsReport
from evaluation.suites import injection as injection_suite
from evaluation.suites import out_of_distribution as out_of_distribution_suite
from evaluation.suites import turns as turns_suite
from evaluation.suites.injection import InjectionSuite
from evaluation.suites.out_of_distribution import OutOfDistributionSuite
from evaluation.suites.steerability import Suite
from evaluation.suites.turns import TurnsSuite

INJECTION_SHARE: Final = 0.25  # all of them: of the suite's budget, in requests
TURNS_SHARE: Final = 0.125
OUT_OF_DISTRIBUTION_SHARE: Final = 0.125
CALIBRATION_SHARE: Final = 0.25


class CalibrationSet(NamedTuple):
    """Conversations that neither training nor the suite has seen."""

    schema: CategorySchema
    conversations: tuple[Conversation, ...]

    @property
    def questions(self) -> Questions:
        said = [[c.id, c.category, [[m.role, m.text] for m in c.messages]] for c in self.conversations]
        canonical = json.dumps([self.schema.sha256, said], ensure_ascii=False, separators=(",", ":"))
        each = tuple(Question(self.schema, conversation) for conversation in self.conversations)
        return Questions(hashlib.sha256(canonical.encode()).hexdigest(), each, "calibration")


class AuxiliarySuites(NamedTuple):
    """The questions. Of the candidate all are asked; of what it is compared with, injection and foreign alone."""

    injection: InjectionSuite
    turns: TurnsSuite
    out_of_distribution: OutOfDistributionSuite
    calibration: CalibrationSet

    @property
    def sha256(self) -> str:
        asked = (
            self.injection.sha256,
            self.turns.sha256,
            self.out_of_distribution.sha256,
            self.calibration.questions.sha256,
        )
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


class AuxiliaryAnswers(NamedTuple):
    """A stage's answers. calibration_reasoned: the same with reasoning, of a stage that was asked for the code at once.

    divergence: from the base.
    """

    injection: Sequence[Measured]
    out_of_distribution: Sequence[Measured]
    turns: Sequence[Measured] = ()
    calibration: Sequence[Measured] = ()
    calibration_reasoned: Sequence[Measured] = ()
    divergence: Divergence | None = None


class AuxiliaryMetrics(BaseModel):
    """What was not asked of a stage, or cannot be had, is None. reasoning_length: in characters."""

    model_config = ConfigDict(frozen=True)

    injection: InjectionReport
    turns: TurnsReport | None
    calibration: Calibration | None
    reasoning_length: ReasoningLength
    divergence: Divergence | None
    auto: AutoThreshold | None = None  # of mode auto; where the stage was asked for the code at once


def build(
    suite: Suite,
    held_out: Sequence[Conversation],
    calibration_split: Sequence[Conversation],
    *,
    seed: int = 0,
    max_items: int = 1200,
) -> AuxiliarySuites:
    """held_out: those that the suite was drawn from; what it left of them is for calibration too.

    max_items: of the suite.
    """
    schema = suite.schema
    return AuxiliarySuites(
        injection_suite.build(schema, held_out, seed=seed, max_items=int(max_items * INJECTION_SHARE)),
        turns_suite.build(schema, held_out, seed=seed, max_items=int(max_items * TURNS_SHARE)),
        out_of_distribution_suite.build(
            out_of_distribution.shipped(), seed=seed, max_items=int(max_items * OUT_OF_DISTRIBUTION_SHARE)
        ),
        calibration_set(suite, held_out, calibration_split, seed=seed, max_items=max_items),
    )


def calibration_set(
    suite: Suite,
    held_out: Sequence[Conversation],
    calibration_split: Sequence[Conversation],
    *,
    seed: int,
    max_items: int,
) -> CalibrationSet:
    """As for `build`."""
    unseen = [*calibration_split, *(c for c in held_out if c.id not in suite.conversations)]
    known = sorted(
        (c for c in unseen if c.labelled and c.category in suite.schema.answers), key=lambda c: c.id
    )
    drawn = random.Random(seed).sample(known, min(len(known), int(max_items * CALIBRATION_SHARE)))
    return CalibrationSet(suite.schema, tuple(drawn))


async def ask(
    auxiliary_suites: AuxiliarySuites,
    stage_client: StageClient,
    stage: str,
    base: str | None,
    *,
    whole: bool,
    mode: Mode = Mode.reasoned,
) -> AuxiliaryAnswers:
    """whole: all that is asked of a candidate. base: what it diverges from, if that is served. mode: of the client; the
    other one is asked too where auto could have both."""
    injected = await stage_client.answers(stage, auxiliary_suites.injection.questions)
    others = await stage_client.answers(stage, auxiliary_suites.out_of_distribution.questions)
    if not whole:
        return AuxiliaryAnswers(injected, others)
    calibrating = auxiliary_suites.calibration.questions
    both = mode is Mode.fast and Mode.reasoned in stage_client.modes
    return AuxiliaryAnswers(
        injected,
        others,
        await stage_client.answers(stage, auxiliary_suites.turns.questions),
        await stage_client.answers(stage, calibrating),
        await stage_client.answers(stage, calibrating, mode=Mode.reasoned) if both else (),
        None if base is None else await stage_client.divergence(stage, base, calibrating),
    )


def report(
    auxiliary_suites: AuxiliarySuites,
    found: AuxiliaryAnswers,
    suite: Suite,
    answered: Sequence[Measured],
    threshold: float | None,
) -> AuxiliaryMetrics:
    """answered: by the same stage to the suite. threshold: as in traffic, where confidences are calibrated.

    The calibration itself is of raw answers, without the threshold.
    """
    plain = {
        i: Gold(item.conversation_id, item.gold_before) for i, item in enumerate(suite.items) if item.natural
    }
    natural = [m for m in answered if m.item in plain]
    whole = bool(found.calibration or found.turns)
    fitted = _calibration(auxiliary_suites.calibration, found.calibration, plain, natural) if whole else None
    injected, replayed = (
        sample_scores.at_temperature(one, temperature_of(fitted)) for one in (found.injection, found.turns)
    )
    return AuxiliaryMetrics(
        injection=injection.score(auxiliary_suites.injection, injected, threshold),
        turns=turns.score(auxiliary_suites.turns, replayed, threshold) if whole else None,
        calibration=fitted,
        reasoning_length=reasoning_length.against_accuracy(_lengths(plain, natural)),
        divergence=found.divergence,
        auto=_auto(auxiliary_suites.calibration, found, temperature_of(fitted)) if whole else None,
    )


def temperature_of(fitted: Calibration | None) -> float | None:
    """None where confidences stay as they are."""
    return fitted.temperature if fitted is not None and fitted.method == "temperature" else None


def report_out_of_distribution(
    auxiliary_suites: AuxiliarySuites, found: Mapping[str, AuxiliaryAnswers]
) -> OutOfDistributionReport:
    """found: by stage, in their order."""
    return out_of_distribution.score(
        auxiliary_suites.out_of_distribution, {stage: one.out_of_distribution for stage, one in found.items()}
    )


def _calibration(
    fitted: CalibrationSet,
    answers: Sequence[Measured],
    plain: Mapping[int, Gold],
    natural: Sequence[Measured],
) -> Calibration:
    made = calibrator.fit(calibrator.reads(_golds(fitted), answers).each)
    return calibration.measure(made, calibrator.reads(plain, natural).each)


def _auto(
    calibration_set: CalibrationSet, found: AuxiliaryAnswers, temperature: float | None
) -> AutoThreshold | None:
    if not found.calibration_reasoned:
        return None
    golds = _golds(calibration_set)
    return auto_threshold.fit(golds, found.calibration, found.calibration_reasoned, temperature)


def _golds(calibration_set: CalibrationSet) -> list[Gold]:
    return [Gold(c.id, c.category) for c in calibration_set.conversations]


def _lengths(plain: Mapping[int, Gold], natural: Sequence[Measured]) -> list[MeasuredLength]:
    return [
        MeasuredLength(plain[m.item].conversation_id, len(reasoning), _right(m, plain[m.item]))
        for m in natural
        if m.prediction is not None and (reasoning := m.prediction.reasoning) is not None
    ]


def _right(measured: Measured, gold: Gold) -> bool:
    found = measured.prediction
    return found is not None and is_right(found, gold.category)
