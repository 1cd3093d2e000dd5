"""The verdict on a report under a policy: passed, failed or incomplete, with reasons in plain language.

How a value and its interval are judged is said once, at the top of `policies/default.toml`.
"""

import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist
from typing import NamedTuple

from evaluation.contract.perturb import IDENTITY
from evaluation.gating.policy import Bound, NotWorse, Policy
from evaluation.metrics.measures import Measure
from evaluation.metrics.statistics import paired_interval
from evaluation.reporting import assembly
from evaluation.reporting.report import Check, GateReport, Report, StageReport, Verdict

IN_WORDS = {
    "majority_over_selection": "over-selection of the largest category",
    "steerability_seen": "steerability (edits seen in training)",
    "steerability_unseen": "steerability (edits never seen in training)",
    "unparsable": "the share of unparsable answers",
    "forced_read": "the share of answers that had to be forced",
    "evidence_rate": "the share of answers with a verified quote",
    "decided_by_rate": "the share of answers that name a condition",
    "injection_success": "the share of prompt injections that got the answer they wanted",
    "out_of_distribution_accuracy_gain": "accuracy on schemas of others compared with the base",
}
_OF_EDITS = frozenset(
    (
        "steerability",
        "steerability_seen",
        "steerability_unseen",
        "flip_accuracy",
        "invariance",
        "override_rate",
    )
)
_OF_RANKS = frozenset(("steerability", "steerability_seen", "steerability_unseen"))
_NATURAL = frozenset(("accuracy", "macro_f1", "majority_over_selection"))
_AUXILIARY = frozenset(
    ("injection_success", "out_of_distribution_accuracy_gain")
)  # no family's: more of the suite says nothing
_NO_BASE = "the report has no stage `base` to compare with; measure the base model too"
_THAN = {"base": "the base", "live": "what is live"}
_LEVEL = 0.95


class CheckOutcome(NamedTuple):
    verdict: Verdict
    needed: int | None  # examples, where their number decides


class _Limit(NamedTuple):
    """sign: 1 for a floor, -1 for a ceiling, which is a floor under the negated value. widened: intervals, by this."""

    limit: float
    slack: float
    least_n: int
    sign: int
    widened: float


class _Asked(NamedTuple):
    """What a check is of. missing: why there may be nothing to judge. families: whose answers decide it."""

    key: str
    name: str
    families: tuple[str, ...]
    missing: str


def decide(
    report: Report, policy: Policy, stage: str | None = None, *, base_needed: bool = True
) -> GateReport:
    """stage: which one is the candidate; the last by default. Raises: KeyError for a stage not in the report.

    base_needed: where the report has no stage `base`, what compares with it is then open, as of any model that was
    trained; else it is named as not judged, as of a server of which nobody has the base.
    The report is scored anew where the policy counts other families than it did.
    """
    if set(report.counted) != set(policy.families.counted):
        report = assembly.rescore(report, policy.families.counted)
    candidates = {s.stage: s for s in report.stages}
    candidate = report.stages[-1] if stage is None else candidates[stage]
    left_out: dict[str, None] = {}
    if not base_needed and assembly.BASE not in candidates.keys() - {candidate.stage}:
        policy, left_out = _without_base(policy)
    checks = [_errored(candidate, policy), *_required(report, candidate, policy)]
    checks += [_bound(report, candidate, bound, policy, 1) for bound in policy.floors]
    checks += [_bound(report, candidate, bound, policy, -1) for bound in policy.ceilings]
    checks += [check for one in policy.not_worse for check in _not_worse(report, candidate, one, policy)]
    verdict = _verdict(checks)
    reasons = [c.reason for c in checks if c.verdict is not Verdict.passed] or [c.reason for c in checks]
    return GateReport(
        verdict=verdict,
        reasons=reasons,
        policy_sha256=policy.sha256,
        stage=candidate.stage,
        checks=checks,
        not_judged=list(left_out),
    )


def not_judged(decided: GateReport) -> list[str]:
    """One sentence, where something was not."""
    if not decided.not_judged:
        return []
    named = ", ".join(decided.not_judged)
    return [f"not judged, as no stage `base` was asked (--model base=NAME): {named}"]


def widening(looks: int) -> float:
    """How much wider a 95 % interval is that holds at every one of so many looks (Bonferroni)."""
    plain, held = (NormalDist().inv_cdf(1 - (1 - _LEVEL) / 2 / n) for n in (1, looks))
    return held / plain


def _without_base(policy: Policy) -> tuple[Policy, dict[str, None]]:
    """With the names of what compares with the base, in their order."""
    bounds = {"floors": policy.floors, "ceilings": policy.ceilings}
    names = [_name(b.measure) for some in bounds.values() for b in some if _is_gain(b.measure)]
    names += [_compared(one) for one in policy.not_worse if one.than == assembly.BASE]
    kept = {of: tuple(b for b in some if not _is_gain(b.measure)) for of, some in bounds.items()}
    others = tuple(one for one in policy.not_worse if one.than != assembly.BASE)
    return policy.model_copy(update=kept | {"not_worse": others}), dict.fromkeys(names)


def _is_gain(measure: str) -> bool:
    return measure.endswith("_gain")


def _name(measure: str) -> str:
    return IN_WORDS.get(measure, measure.replace("_", " "))


def _compared(asked: NotWorse, kinds: Sequence[str] = ()) -> str:
    of_kinds = f" on edits of the kind {' and '.join(kinds)}" if kinds else ""
    return f"{_name(asked.measure)}{of_kinds} compared with {_THAN[asked.than]}"


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
    reason = f"{_percent(measure.value)} of {measure.n} requests failed on our side (at most {most} may)"
    bad = measure.value > policy.max_errored
    again = "; look at the model server and measure again" if bad else ""
    return Check(
        measure="errored", verdict=Verdict.incomplete if bad else Verdict.passed, reason=reason + again
    )


def _required(report: Report, candidate: StageReport, policy: Policy) -> Iterator[Check]:
    for family in policy.families.required:
        if family not in candidate.per_family:
            why = report.left_out.get(family, "it was not asked")
            reason = f"no edit of the kind {family} was judged, and the policy requires it: {why}"
            yield Check(measure=family, verdict=Verdict.incomplete, reason=reason, families=(family,))


def _bound(report: Report, candidate: StageReport, bound: Bound, policy: Policy, sign: int) -> Check:
    families = _deciding(bound.measure, policy)
    name = _name(bound.measure)
    missing = (
        _NO_BASE if _is_gain(bound.measure) else f"it has no examples (at least {bound.least_n} are needed)"
    )
    looks = report.interim_looks
    limit = _Limit(bound.limit, bound.slack, bound.least_n, sign, widening(len(looks.planned)))
    check = _check(
        _measured(report, candidate, bound.measure), _Asked(bound.measure, name, families, missing), limit
    )
    interim = looks.used < len(looks.planned)
    if interim and bound.measure in _OF_RANKS and sign > 0 and check.verdict is Verdict.failed:
        # Of few conversations a rank correlation is lower than of many, and its interval does not know that.
        reason = f"{check.reason}, which only all of the questions can decide"
        return check.model_copy(update={"verdict": Verdict.incomplete, "reason": reason})
    return check


def _measured(report: Report, candidate: StageReport, name: str) -> Measure | None:
    if name == "injection_success":
        return None if candidate.auxiliary is None else candidate.auxiliary.injection.success
    if name == "out_of_distribution_accuracy_gain":
        stages = report.out_of_distribution.stages if report.out_of_distribution else []
        return next((one.accuracy_gain for one in stages if one.stage == candidate.stage), None)
    found: Measure = getattr(candidate, name)
    return found


def _not_worse(report: Report, candidate: StageReport, asked: NotWorse, policy: Policy) -> Iterator[Check]:
    """Nothing where there is nothing to be worse than: no live model, no edits besides those that count."""
    compared, others = candidate.compared.get(asked.than), asked.edits == "others"
    uncounted = tuple(family for family in candidate.per_family if family not in policy.families.counted)
    if (
        candidate.stage == asked.than
        or (compared is None and asked.than == "live")
        or (others and not uncounted)
    ):
        return
    found = compared.others if compared and others else compared
    yield _check(
        None if found is None else getattr(found, asked.measure),
        _Asked(
            "_".join(filter(None, (asked.measure, "of_others" if others else "", "over", asked.than))),
            _compared(asked, uncounted if others else ()),
            uncounted if others else _deciding(asked.measure, policy),
            _NO_BASE,
        ),
        _Limit(-asked.margin, asked.slack, asked.least_n, 1, widening(len(report.interim_looks.planned))),
    )


def _deciding(measure: str, policy: Policy) -> tuple[str, ...]:
    if measure in _NATURAL:
        return (IDENTITY,)
    if measure in _AUXILIARY:
        return (measure,)
    return policy.families.counted if measure in _OF_EDITS else ()


def _check(measure: Measure | None, asked: _Asked, limit: _Limit) -> Check:
    if measure is None or measure.value is None:
        return Check(
            measure=asked.key,
            verdict=Verdict.incomplete,
            reason=f"{asked.name} could not be measured: {asked.missing}",
            families=asked.families,
        )
    graded = _outcome(measure, limit)
    reason = f"{asked.name} is {measure.value:.2f}{_interval(measure)} over {measure.n} examples; "
    reason += f"{'at least' if limit.sign > 0 else 'at most'} {limit.limit:.2f} is asked"
    if graded.verdict is Verdict.incomplete:
        reason += f", and this is too few examples to decide: about {graded.needed} are needed"
    return Check(
        measure=asked.key,
        verdict=graded.verdict,
        reason=reason,
        families=asked.families,
        needed=graded.needed,
    )


def _outcome(measure: Measure, limit: _Limit) -> CheckOutcome:
    assert measure.value is not None
    if measure.n < limit.least_n:
        return CheckOutcome(Verdict.incomplete, limit.least_n)
    if measure.ci95 is None:
        return CheckOutcome(Verdict.incomplete, 2 * measure.n)
    value, bar = limit.sign * measure.value, limit.sign * limit.limit
    low, high = sorted(limit.sign * end for end in _widened(measure, limit.widened))
    holds = value >= bar
    room = value - (bar - limit.slack) if holds else bar + limit.slack - value
    reach = value - low if holds else high - value
    if reach <= room:
        return CheckOutcome(Verdict.passed if holds else Verdict.failed, None)
    # The width of an interval falls with the square root of the number of examples.
    return CheckOutcome(Verdict.incomplete, math.ceil(measure.n * (reach / room) ** 2 / 10) * 10)


def _widened(measure: Measure, factor: float) -> tuple[float, float]:
    """The interval that reaches so many times as many standard errors. Of pairs it is computed anew at that level."""
    assert measure.value is not None and measure.ci95 is not None
    if measure.paired is not None:
        plain = NormalDist().inv_cdf((1 + _LEVEL) / 2)
        held = paired_interval(*measure.paired, measure.n, 2 * NormalDist().cdf(factor * plain) - 1)
        assert held is not None  # there are pairs
        return held
    low, high = (measure.value + factor * (end - measure.value) for end in measure.ci95)
    return low, high


def _interval(measure: Measure) -> str:
    return "" if measure.ci95 is None else f" (95 % interval {measure.ci95[0]:.2f} to {measure.ci95[1]:.2f})"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
