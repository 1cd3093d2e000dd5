"""A suite that is too small for its policy is known before anything is asked."""

from evaluation.gating.coverage import too_few
from evaluation.gating.policy import load_policy
from evaluation.suites import steerability
from tests.evaluation.shop import SCHEMA, conversations


def test_a_large_suite_has_enough_and_a_small_one_is_said_measure_by_measure() -> None:
    policy, rows = load_policy(), list(conversations())
    assert too_few(steerability.build(SCHEMA, rows, max_items=720), policy) == []
    (*_, flips, stays) = found = too_few(steerability.build(SCHEMA, rows, max_items=120), policy)
    assert [line.split(" has ")[0] for line in found] == [
        "accuracy",
        "majority over selection",
        "steerability",
        "flip accuracy",
        "invariance",
    ]
    assert flips.endswith("at least 100 are needed") and stays.endswith("at least 100 are needed")


def test_only_edits_that_count_are_counted() -> None:
    policy, rows = load_policy(), list(conversations())
    counted = ("swap", "cycle", "drop", "rename", "shuffle", "boundary", "reword")
    of_others = steerability.build(SCHEMA, rows, max_items=720, families=("novel", "merge"))
    assert set(policy.families.counted) == set(counted)
    assert "steerability has 0 examples and at least 200 are needed" in too_few(of_others, policy)
