"""Accuracy on schemas that the model was not trained for, stage by stage.

It says how far the sampled conversations speak for those schemas. The schemas themselves are few and chosen, so the
intervals do not speak for schemas at large.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from evaluation.contract.record import Conversation, parse_jsonl
from evaluation.contract.schema import CategorySchema, parse_schema
from evaluation.contract.score import UNPARSABLE, Graded, given
from evaluation.inference.runner import Measured, Outcome
from evaluation.metrics import measures
from evaluation.metrics.measures import Measure, rate
from evaluation.suites.out_of_distribution import OutOfDistributionSuite

EXAMPLES = Path(__file__).parent / "examples"


class OutOfDistributionStage(BaseModel):
    model_config = ConfigDict(frozen=True)

    stage: str
    accuracy: Measure
    accuracy_gain: Measure | None  # over the stage `base`, paired; None where there is no such stage
    per_schema: dict[str, Measure]  # accuracy, by the schema's name
    unparsable: Measure
    errored: Measure  # in none of the others


class OutOfDistributionReport(BaseModel):
    model_config = ConfigDict(frozen=True)

    suite_sha256: str
    seed: int
    items: int
    stages: list[OutOfDistributionStage]


def score(
    suite: OutOfDistributionSuite, measured_by_stage: Mapping[str, Sequence[Measured]]
) -> OutOfDistributionReport:
    """measured_by_stage: in the order of the stages; one called `base` is what the others are compared with."""
    graded = {stage: _graded(suite, measured) for stage, measured in measured_by_stage.items()}
    base = graded.get("base")
    stages = [_stage(suite, stage, measured_by_stage[stage], own, base) for stage, own in graded.items()]
    return OutOfDistributionReport(
        suite_sha256=suite.sha256, seed=suite.seed, items=len(suite.items), stages=stages
    )


def shipped() -> list[tuple[CategorySchema, Sequence[Conversation]]]:
    """Small schemas with labelled conversations, written for this; no training of ours reads them."""
    return [_example(path) for path in sorted(EXAMPLES.glob("*.json"))]


def _example(path: Path) -> tuple[CategorySchema, Sequence[Conversation]]:
    schema = parse_schema(path.read_bytes())
    parsed = parse_jsonl(path.with_suffix(".jsonl").read_bytes(), schema)
    if parsed.rejects:
        raise ValueError(f"{path.stem}.jsonl, line {parsed.rejects[0].line}: {parsed.rejects[0].reason}")
    return schema, parsed.conversations


def _stage(
    suite: OutOfDistributionSuite,
    stage: str,
    measured: Sequence[Measured],
    own: dict[str, Graded],
    base: dict[str, Graded] | None,
) -> OutOfDistributionStage:
    schema_of = {item.key: suite.schemas[item.schema].name for item in suite.items}
    by_schema: dict[str, list[Graded]] = {schema.name: [] for schema in suite.schemas}
    for key, one in own.items():
        by_schema[schema_of[key]].append(one)
    return OutOfDistributionStage(
        stage=stage,
        accuracy=_accuracy(list(own.values())),
        accuracy_gain=None if base is None or base is own else measures.gain(own, base),
        per_schema={name: _accuracy(members) for name, members in by_schema.items()},
        unparsable=rate(sum(one.given is UNPARSABLE for one in own.values()), len(own)),
        errored=rate(sum(m.outcome is Outcome.errored for m in measured), len(measured)),
    )


def _accuracy(graded: Sequence[Graded]) -> Measure:
    """Every conversation counts once."""
    return rate(sum(one.right for one in graded), len(graded))


def _graded(suite: OutOfDistributionSuite, measured: Sequence[Measured]) -> dict[str, Graded]:
    found = {}
    for one in measured:
        if one.prediction is not None:  # else the request failed, which says nothing about the model
            item = suite.items[one.item]
            found[item.key] = Graded(item.conversation.category, given(one.prediction))
    return found
