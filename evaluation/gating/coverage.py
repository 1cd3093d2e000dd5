"""Whether a suite is large enough for a policy, known before the first question is asked."""

from collections import Counter

from evaluation.gating.policy import Policy
from evaluation.suites.steerability import Suite

# What a check of the measure counts; those that the auxiliary suites decide are not here.
_COUNTED_BY = {
    "accuracy": "natural",
    "majority_over_selection": "natural",
    "steerability": "moved",
    "flip_accuracy": "must_move",
    "invariance": "must_stay",
}


def too_few(suite: Suite, policy: Policy) -> list[str]:
    """One line for each measure that the whole suite has too few examples to judge; the gate would stay incomplete."""
    have = _examples(suite, policy.families.counted)
    needed: dict[str, int] = {}
    asked = [(one.measure, one.least_n) for one in (*policy.floors, *policy.ceilings)]
    asked += [(one.measure, one.least_n) for one in policy.not_worse if one.edits == "counted"]
    for measure, least_n in asked:
        needed[measure] = max(least_n, needed.get(measure, 0))
    return [
        f"{measure.replace('_', ' ')} has {have[counted]} examples and at least {needed[measure]} are needed"
        for measure, counted in _COUNTED_BY.items()
        if measure in needed and have[counted] < needed[measure]
    ]


def _examples(suite: Suite, counted: tuple[str, ...]) -> Counter[str]:
    have = Counter(natural=sum(item.natural for item in suite.items))
    for item in suite.items:
        if item.perturbation and suite.perturbations[item.perturbation].family in counted:
            have.update(("moved", "must_move" if item.must_move else "must_stay"))
    return have
