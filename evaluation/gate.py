"""The verdict on a report under a policy: passed, failed or incomplete, with reasons in plain language.

How a value and its interval are judged is said once, at the top of `policies/default.toml`.
"""

import hashlib
import math
import tomllib
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evaluation.measures import Measure
from evaluation.report import Check, GateResult, Report, StageReport, Verdict

DEFAULT_POLICY = Path(__file__).parent / "policies" / "default.toml"
Named = Literal[
    "accuracy",
    "accuracy_gain",
    "macro_f1",
    "majority_over_selection",
    "steerability",
    "steerability_seen",
    "steerability_unseen",
    "flip_accuracy",
    "invariance",
    "override_rate",
    "unparsable",
    "forced_read",
    "label_mass",
    "evidence_rate",
    "decided_by_rate",
]
IN_WORDS = {
    "accuracy_gain": "accuracy compared with the base",
    "majority_over_selection": "over-selection of the largest category",
    "steerability_seen": "steerability (edits seen in training)",
    "steerability_unseen": "steerability (edits never seen in training)",
    "unparsable": "the share of unparsable answers",
    "forced_read": "the share of answers that had to be forced",
    "evidence_rate": "the share of answers with a verified quote",
    "decided_by_rate": "the share of answers that name a condition",
}
NOT_MEASURED = {"accuracy_gain": "the report has no stage `base` to compare with; measure the base model too"}


class PolicyError(ValueError):
    """A policy file that cannot be used."""


class Bound(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    measure: Named
    limit: float
    slack: float = Field(gt=0)
    least_n: int = Field(ge=1)


class Policy(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1]
    max_errored: float = Field(ge=0, le=1)
    floors: tuple[Bound, ...] = Field(min_length=1)
    ceilings: tuple[Bound, ...] = ()
    sha256: str  # of the file's bytes


class Judged(NamedTuple):
    verdict: Verdict
    needed: int | None  # examples, where their number decides


def load_policy(path: Path = DEFAULT_POLICY) -> Policy:
    content = path.read_bytes()
    try:
        raw = tomllib.loads(content.decode())
        return Policy.model_validate(raw | {"sha256": hashlib.sha256(content).hexdigest()})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PolicyError(f"{path.name} is not TOML: {error}") from None
    except ValidationError as error:
        problem = error.errors()[0]
        raise PolicyError(f"{path.name}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from None


def decide(report: Report, policy: Policy, stage: str | None = None) -> GateResult:
    """stage: which one is the candidate; the last by default. Raises: KeyError for a stage not in the report."""
    candidates = {s.stage: s for s in report.stages}
    candidate = report.stages[-1] if stage is None else candidates[stage]
    checks = [_errored(candidate, policy)]
    checks += [_check(candidate, bound, sign=1) for bound in policy.floors]
    checks += [_check(candidate, bound, sign=-1) for bound in policy.ceilings]
    verdict = _verdict(checks)
    reasons = [c.reason for c in checks if c.verdict is not Verdict.passed] or [c.reason for c in checks]
    return GateResult(
        verdict=verdict, reasons=reasons, policy_sha256=policy.sha256, stage=candidate.stage, checks=checks
    )


def _verdict(checks: list[Check]) -> Verdict:
    verdicts = [check.verdict for check in checks]
    if checks[0].verdict is Verdict.incomplete:
        return Verdict.incomplete  # too many requests failed for any other number to be trusted
    return next((v for v in (Verdict.failed, Verdict.incomplete) if v in verdicts), Verdict.passed)


def _errored(candidate: StageReport, policy: Policy) -> Check:
    measure = candidate.errored
    if measure.value is None:
        return Check(measure="errored", verdict=Verdict.incomplete, reason="nothing was measured")
    most = _percent(policy.max_errored)
    told = f"{_percent(measure.value)} of {measure.n} requests failed on our side (at most {most} may)"
    bad = measure.value > policy.max_errored
    again = "; look at the model server and measure again" if bad else ""
    return Check(
        measure="errored", verdict=Verdict.incomplete if bad else Verdict.passed, reason=told + again
    )


def _check(candidate: StageReport, bound: Bound, sign: int) -> Check:
    measure: Measure | None = getattr(candidate, bound.measure)
    name = IN_WORDS.get(bound.measure, bound.measure.replace("_", " "))
    if measure is None or measure.value is None:
        why = NOT_MEASURED.get(
            bound.measure, f"there are no examples for it (at least {bound.least_n} are needed)"
        )
        return Check(
            measure=bound.measure, verdict=Verdict.incomplete, reason=f"{name} could not be measured: {why}"
        )
    judged = _judge(measure, bound, sign)
    told = f"{name} is {measure.value:.2f}{_interval(measure)} over {measure.n} examples; "
    told += f"{'at least' if sign > 0 else 'at most'} {bound.limit:.2f} is asked"
    if judged.verdict is Verdict.incomplete:
        told += f", and this is too few examples to decide: about {judged.needed} are needed"
    return Check(measure=bound.measure, verdict=judged.verdict, reason=told)


def _judge(measure: Measure, bound: Bound, sign: int) -> Judged:
    """sign: 1 for a floor, -1 for a ceiling, which is a floor under the negated value."""
    assert measure.value is not None
    if measure.n < bound.least_n:
        return Judged(Verdict.incomplete, bound.least_n)
    if measure.ci95 is None:
        return Judged(Verdict.incomplete, 2 * measure.n)
    value, limit = sign * measure.value, sign * bound.limit
    low, high = sorted(sign * end for end in measure.ci95)
    holds = value >= limit
    room = value - (limit - bound.slack) if holds else limit + bound.slack - value
    reach = value - low if holds else high - value
    if reach <= room:
        return Judged(Verdict.passed if holds else Verdict.failed, None)
    # The width of an interval falls with the square root of the number of examples.
    return Judged(Verdict.incomplete, math.ceil(measure.n * (reach / room) ** 2 / 10) * 10)


def _interval(measure: Measure) -> str:
    return "" if measure.ci95 is None else f" (95 % interval {measure.ci95[0]:.2f} to {measure.ci95[1]:.2f})"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
