"""Learning one tenant after another: what is normalised, what counts as forgotten, and what the table says."""

from pathlib import Path

import pytest

from app.studies import comparison, plots, sequence
from app.studies.matrix import Study
from app.studies.results import ArmResult, Cost, SeedResult, StudyPoint, at_end
from app.studies.sequence import forgetting, normalised
from evaluation.metrics.measures import Measure

CHAIN = {
    f"{arm}{tenant}": {"kind": "sft", "traces": "expert", "tenant": tenant}
    | ({"after": f"{arm}{tenant - 1}"} if tenant else {})
    for arm in "ab"
    for tenant in range(3)
}
STUDY = Study.model_validate(
    {
        "title": "In a row",
        "against": "A",
        "stages": CHAIN,
        "arms": [{"name": "A", "stage": "a2"}, {"name": "B", "stage": "b2"}],
    }
)
BASE = [0.4, 0.4, 0.5]
LEARNED = [BASE, [0.8, 0.5, 0.5], [0.7, 0.9, 0.5], [0.6, 0.8, 0.52]]
"""The last tenant gains too little for a share of it to mean anything."""


def measure(value: float | None, n: int = 10) -> Measure:
    return Measure(value=value, n=n, ci95=None)


def point(accuracies: list[float | None], retention: float = 0.9) -> StudyPoint:
    return StudyPoint(
        tasks=[{"accuracy": measure(value)} for value in accuracies], retention=measure(retention)
    )


def arm_result(*rows: list[float]) -> ArmResult:
    points = [point([*row]) for row in rows]
    return ArmResult(measures=at_end(points), cost=Cost(wall_s=1, tokens=1), points=points)


def result(seed: int, a: list[list[float]], b: list[list[float]]) -> SeedResult:
    return SeedResult(
        key="k", seed=seed, arms={"base": arm_result(BASE), "A": arm_result(*a), "B": arm_result(*b)}
    )


def shifted(rows: list[list[float]], by: float) -> list[list[float]]:
    return [[value + by for value in row] for row in rows]


def test_what_learning_gained_is_1_when_it_was_learned_and_less_when_it_was_forgotten() -> None:
    assert normalised(LEARNED, step=1, task=0) == pytest.approx(1)
    assert normalised(LEARNED, step=2, task=0) == pytest.approx(0.75)
    assert normalised(LEARNED, step=3, task=0) == pytest.approx(0.5)
    assert normalised(LEARNED, step=1, task=1) == pytest.approx(0.2)  # before its turn
    assert normalised(LEARNED, step=0, task=1) == 0


@pytest.mark.parametrize("gain", [0.02, 0.0, -0.3])
def test_there_is_no_share_of_a_gain_that_was_none(gain: float) -> None:
    course = [[0.5, 0.5], [0.5 + gain, 0.5], [0.9, 0.8]]
    assert normalised(course, step=2, task=0) is None
    assert normalised(course, step=2, task=1) == pytest.approx(1)


def test_forgetting_is_what_tenants_lost_to_those_that_followed() -> None:
    assert forgetting(LEARNED) == pytest.approx((0.2 + 0.1) / 2)
    assert forgetting([[0.4, 0.4], [0.5, 0.4], [0.7, 0.9]]) == pytest.approx(-0.2)  # it got better


def test_the_end_of_an_arm_is_the_mean_over_its_tenants() -> None:
    ended = at_end([point([0.1, 0.2, 0.3]), point([0.6, 0.8, 0.4], retention=0.7)])
    assert (ended["accuracy"].value, ended["accuracy"].n) == (pytest.approx(0.6), 30)
    assert ended["retention"].value == 0.7
    assert at_end([point([0.6, None, 0.4])])["accuracy"].value is None
    some = StudyPoint(tasks=[{"accuracy": measure(0.5)}, {}], retention=measure(0.7))
    assert set(at_end([some])) == {"retention"}


def test_the_end_of_one_tenant_keeps_its_interval() -> None:
    alone = Measure(value=0.5, n=20, ci95=(0.3, 0.7))
    assert at_end([StudyPoint(tasks=[{"accuracy": alone}], retention=measure(0.9))])["accuracy"] == alone


def test_the_table_has_every_tenant_after_every_step() -> None:
    b = [[0.8, 0.5, 0.5], [0.8, 0.9, 0.5], [0.8, 0.9, 0.9]]
    text = comparison.markdown(STUDY, [result(0, LEARNED[1:], b)])
    assert "Measures: after the last step, mean over demo, bank, travel." in text
    lines = text[text.index("Accuracy on each tenant") :].splitlines()
    assert "| arm | on | base | demo | then bank | then travel |" in lines
    assert "| A | demo | 0.400 | 0.800 | 0.700 | 0.600 |" in lines
    assert "| A | travel | 0.500 | 0.500 | 0.500 | 0.520 |" in lines
    assert "| B | no tenant | 0.900 | 0.900 | 0.900 | 0.900 |" in lines
    assert "| A | demo | 1.000 | 0.750 | 0.500 |" in lines
    assert "| A | travel | – | – | – |" in lines
    assert "| A | 0.640 | 0.150 | 0.000 |" in lines
    assert "| B | 0.867 | 0.000 | -0.150 |" in lines


def test_intervals_are_over_seeds_and_seeds_that_are_left_out_are_counted() -> None:
    b = [[0.8, 0.5, 0.5], [0.8, 0.9, 0.5], [0.8, 0.9, 0.9]]
    weak = [[0.8, 0.5, 0.5], [0.7, 0.42, 0.5], [0.6, 0.42, 0.9]]
    found = [result(0, LEARNED[1:], b), result(1, weak, b), result(2, shifted(LEARNED[1:], 0.1), b)]
    way = next(one for one in sequence.ways(STUDY, found) if one.arm == "A")
    after_first = way.accuracies(0)[1]
    assert after_first is not None and after_first.reach is not None
    assert after_first.value == pytest.approx(0.8 + 0.1 / 3)
    shares = way.shares(1)[1]
    assert shares is not None and (shares.value, shares.seeds) == (pytest.approx(1), 2)
    assert "(2 of 3 seeds)" in comparison.markdown(STUDY, found)


def test_a_seed_without_a_value_is_no_course() -> None:
    broken = result(1, LEARNED[1:], LEARNED[1:])
    broken.arms["A"].points[1] = point([0.7, None, 0.5])
    ways = {way.arm: way for way in sequence.ways(STUDY, [result(0, LEARNED[1:], LEARNED[1:]), broken])}
    assert [course is None for course in ways["A"].courses] == [False, True]
    assert [course is None for course in ways["B"].courses] == [False, False]


def test_the_plot_has_a_panel_for_each_tenant_and_for_what_is_nobodys(tmp_path: Path) -> None:
    made = plots.write(STUDY, [result(0, LEARNED[1:], LEARNED[1:])], tmp_path)
    assert [path.name for path in made] == ["accuracy-retention.svg", "sequence.svg"]
    content = made[1].read_text()
    assert all(f"<!-- on {name} -->" in content for name in ("demo", "bank", "travel", "no tenant"))
