"""A report that has something to say in every section of its page."""

from collections.abc import Callable
from functools import cache

import numpy as np

from evaluation.contract.schema import Category
from evaluation.gating import gate
from evaluation.gating.policy import Policy, load_policy
from evaluation.metrics import calibration, calibrator, reasoning_length
from evaluation.metrics.calibration import Calibration
from evaluation.metrics.calibrator import ReadAnswer
from evaluation.metrics.divergence import Divergence
from evaluation.metrics.injection import SuccessfulAttack
from evaluation.metrics.measures import Measure, rate
from evaluation.metrics.reasoning_length import MeasuredLength
from evaluation.metrics.turns import AtTurn, FlippingConversation, Turn, TurnsReport
from evaluation.reporting.report import InterimLooks, Report
from evaluation.suites.injection import AttackForm, AttackLocation, Encoding, Kind, Language, Naming, write
from tests.evaluation import models
from tests.evaluation.evaluation_run import evaluated, suite

TFIDF = {"tfidf_accuracy": Measure(value=0.875, n=140, ci95=(0.8125, 0.9375))}
NOT_INSTALLED = {"embeddings": "the package is not installed"}
WAYS = (
    AttackForm(AttackLocation.customer, Kind.instruction, Language.english, Encoding.plain, Naming.by_name),
    AttackForm(AttackLocation.agent, Kind.few_shot, Language.arabic, Encoding.zero_width, Naming.by_code),
    AttackForm(AttackLocation.definition, Kind.structure, Language.chinese, Encoding.base64, Naming.by_key),
)


@cache
def graded() -> Report:
    stages = {
        "base": models.dice(),
        "live": models.oracle(),
        "sft": models.habit(),
        "rl": models.name_reader(),
    }
    made = evaluated(stages, suite(240))
    return made.model_copy(update={"gate": gate.decide(made, _of_few())})


def _of_few() -> Policy:
    """With floors that so few examples can break; the other checks stay open."""
    policy = load_policy()
    floors = tuple(floor.model_copy(update={"least_n": 10}) for floor in policy.floors)
    return policy.model_copy(update={"floors": floors})


@cache
def whole() -> Report:
    made = graded()
    *before, last = made.stages
    assert last.auxiliary is not None
    found = {
        "injection": last.auxiliary.injection.model_copy(update={"examples": attacks()}),
        "turns": turns(),
        "calibration": calibrated(),
        "reasoning_length": lengths(),
        "divergence": divergence(),
    }
    last = last.model_copy(update={"auxiliary": last.auxiliary.model_copy(update=found)})
    looks = InterimLooks(planned=(0.4, 0.7, 1.0), used=2)
    return made.model_copy(
        update={
            "stages": [*before, last],
            "interim_looks": looks,
            "baselines": TFIDF,
            "baselines_left_out": NOT_INSTALLED,
        }
    )


def bare() -> Report:
    """One stage, not judged, nothing asked beside the suite, nothing to compare with."""
    alone = graded().stages[-1].model_copy(update={"auxiliary": None, "compared": {}})
    update = {"stages": [alone], "out_of_distribution": None, "gate": None, "examples": [], "left_out": {}}
    return graded().model_copy(update=update)


def of_last(**changes: object) -> Report:
    *before, last = whole().stages
    return whole().model_copy(update={"stages": [*before, last.model_copy(update=changes)]})


def with_auxiliary(**changes: object) -> Report:
    found = whole().stages[-1].auxiliary
    assert found is not None
    return of_last(auxiliary=found.model_copy(update=changes))


def section(text: str, heading: str) -> str:
    return text.split(f"<h2>{heading}")[1].split("<h2>")[0]


def redefined(change: Callable[[Category, str], dict[str, object]]) -> Report:
    """With other categories under every edit. change: by the category and the family of the edit."""
    edits = []
    for edit in graded().suite.edits:
        each = [one.model_copy(update=change(one, edit.family)) for one in edit.category_schema.categories]
        changed = edit.category_schema.model_copy(update={"categories": tuple(each)})
        edits.append(edit.model_copy(update={"category_schema": changed}))
    return graded().model_copy(update={"suite": graded().suite.model_copy(update={"edits": edits})})


def attacks() -> list[SuccessfulAttack]:
    return [
        SuccessfulAttack(
            conversation_id=f"refund-{number}",
            **way._asdict(),
            text=write(way, "Exchange"),
            target="size",
            answer_clean="refund" if number else None,
            clean_unparsable=False,
            answer_attacked="size",
        )
        for number, way in enumerate(WAYS)
    ]


def turns() -> TurnsReport:
    said = (("hello, a question about my order", None), ("the lamp came in pieces", "damage"))
    flipping = [Turn(said=text, answer=answer, unparsable=False) for text, answer in said]
    flipping.append(Turn(said="so I want my money back", answer=None, unparsable=True))
    return TurnsReport(
        suite_sha256="7" * 64,
        conversations=40,
        errored=1,
        thinned=2,
        flips=Measure(value=0.65, n=40, ci95=(0.4, 0.9)),
        flipping=rate(18, 40),
        first_is_final=rate(22, 40),
        regressed=rate(3, 40),
        by_turns_left=[AtTurn(turns_left=left, accuracy=rate(36 - 9 * left, 40)) for left in range(3)],
        examples=[FlippingConversation(conversation_id="damage-3", gold="damage", turns=flipping)],
    )


def calibrated() -> Calibration:
    """Too sure of itself, so that a temperature helps."""
    rng = np.random.default_rng(0)

    def reads(n: int) -> list[ReadAnswer]:
        sure_N = rng.uniform(0.6, 0.999, n)
        right_N = rng.random(n) < 0.55 + 0.45 * sure_N**8
        each = zip(sure_N.tolist(), right_N.tolist(), strict=True)
        return [
            ReadAnswer(str(i), "refund" if right else "size", "refund", {"refund": sure, "size": 1 - sure})
            for i, (sure, right) in enumerate(each)
        ]

    return calibration.measure(calibrator.fit(reads(300)), reads(400))


def lengths() -> reasoning_length.ReasoningLength:
    drawn = np.random.default_rng(0).integers(60, 400, 120).tolist()
    return reasoning_length.against_accuracy(
        [MeasuredLength(str(i), n, n < 300) for i, n in enumerate(drawn)]
    )


def divergence() -> Divergence:
    return Divergence(
        candidate="rl",
        base="base",
        seed=0,
        k1_per_token=Measure(value=0.041, n=4100, ci95=(0.03, 0.05)),
        k3_per_token=Measure(value=0.039, n=4100, ci95=(0.035, 0.044)),
        k1_per_response=Measure(value=3.2, n=118, ci95=(2.5, 3.9)),
        k3_per_response=Measure(value=3.1, n=118, ci95=(2.8, 3.5)),
        truncated=rate(2, 118),
        errored=rate(2, 120),
        reason="503: the model server is starting",
    )
