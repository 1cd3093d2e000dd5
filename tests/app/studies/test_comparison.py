"""Means over seeds, differences within them, and the table."""

import json
from pathlib import Path

import pytest

from app.studies import comparison, plots, tables
from app.studies.held_out import at_least_one
from app.studies.matrix import Study
from app.studies.results import ArmResult, Cost, SeedResult
from evaluation.metrics.measures import Measure

STUDY = Study.model_validate(
    {
        "title": "What it shows",
        "against": "A",
        "stages": {"a": {"kind": "sft", "traces": "expert"}, "b": {"kind": "rl"}},
        "arms": [{"name": "A", "stage": "a"}, {"name": "B", "stage": "b"}],
    }
)


def marks(accuracy: float | None, wall_s: float = 10, tokens: int | None = 100) -> ArmResult:
    measure = Measure(value=accuracy, n=50, ci95=None)
    return ArmResult(measures={"accuracy": measure}, cost=Cost(wall_s=wall_s, tokens=tokens))


def results(*pairs: tuple[float | None, float | None]) -> list[SeedResult]:
    return [
        SeedResult(key="k", seed=n, arms={"A": marks(a), "B": marks(b, 30, None)})
        for n, (a, b) in enumerate(pairs)
    ]


def test_an_interval_is_students_over_the_seeds() -> None:
    found = tables.mean([0.5, 0.6, 0.7])
    assert found.value == pytest.approx(0.6)
    assert found.reach == pytest.approx(4.3027 * 0.1 / 3**0.5, rel=1e-4)
    assert tables.mean([0.5]).reach is None


def test_differences_are_taken_within_a_seed() -> None:
    """The arms' own spread is wide; that of their difference is none."""
    found = comparison.against(results((0.2, 0.3), (0.5, 0.6), (0.8, 0.9)), "B", "A", "accuracy")
    assert found is not None
    assert (found.value, found.reach) == (pytest.approx(0.1), pytest.approx(0.0, abs=1e-12))


def test_a_seed_without_the_measure_is_left_out_and_counted_out() -> None:
    found = comparison.of_arm(results((0.2, 0.3), (None, 0.6)), "A", "accuracy")
    assert found is not None and (found.value, found.seeds) == (0.2, 1)
    assert comparison.of_arm(results((0.2, 0.3)), "A", "steerability") is None


def test_the_table_says_how_many_seeds_and_questions_and_what_it_is_compared_with(tmp_path: Path) -> None:
    found = results((0.25, 0.5), (0.75, 1.0))
    text = comparison.write(STUDY, found, tmp_path).read_text()
    assert text.startswith("# What it shows\n\n2 seeds")
    assert "accuracy 50" in text and "Differences to A" in text
    cells = [line.split(" | ") for line in text.splitlines() if line.startswith("| B")]
    assert cells[0][1].startswith("0.750 ± ") and cells[0][-1] == "– |" and cells[0][-2] == "30"
    assert cells[1][1].startswith("0.250 ± 0.000")
    read = json.loads((tmp_path / "results.json").read_text())
    assert [SeedResult.model_validate(one) for one in read] == found


def test_with_several_bases_an_arm_is_compared_on_its_own(tmp_path: Path) -> None:
    sizes = {"bases": {"small": {"width": 64, "minutes": 1}, "shipped": {"model": "starter"}}}
    study = Study.model_validate(STUDY.model_dump(mode="json") | sizes)
    values = {"small": (0.1, 0.2, 0.3), "shipped": (0.5, 0.6, 0.9)}
    named = [
        (f"{base}: {arm}", v)
        for base, of in values.items()
        for arm, v in zip(("base", "A", "B"), of, strict=True)
    ]
    found = [SeedResult(key="k", seed=0, arms={arm: marks(value) for arm, value in named})]
    text = comparison.markdown(study, found)
    assert "Differences to A on the same base" in text
    after = text[text.index("Differences") :]
    assert "| small: B | 0.100 |" in after and "| shipped: B | 0.300 |" in after
    assert "| small: A |" not in after and "| shipped: A |" not in after
    made = [path.name for path in plots.write(study, found, tmp_path)]
    assert made == ["bases.svg"]  # accuracy alone pays for nothing
    assert b"small" in (tmp_path / "bases.svg").read_bytes()


def test_plots_show_what_was_measured_and_leave_out_what_was_not(tmp_path: Path) -> None:
    found = results((0.25, 0.5), (0.75, 1.0))
    assert plots.write(STUDY, found, tmp_path) == []  # accuracy alone pays for nothing
    for number, result in enumerate(found):
        for arm, steerability in (("A", 0.2), ("B", 0.8)):
            result.arms[arm].measures["steerability"] = Measure(
                value=steerability + number / 10, n=9, ci95=None
            )
        result.arms["B"].curve = [0.1, 0.2, 0.3 + number]
        result.arms["A"].pass_at_k = [0.5, 0.75]
    made = plots.write(STUDY, found, tmp_path)
    assert [path.name for path in made] == ["accuracy-steerability.svg", "learning.svg", "pass-at-k.svg"]
    first = [path.read_bytes() for path in made]
    assert all(b"<svg" in content for content in first)
    assert [path.read_bytes() for path in plots.write(STUDY, found, tmp_path)] == first


def test_pass_at_k_is_the_chance_that_one_of_k_is_right() -> None:
    assert [at_least_one(4, 1, k) for k in (1, 2, 4)] == [pytest.approx(0.25), pytest.approx(0.5), 1.0]
    assert (at_least_one(4, 0, 4), at_least_one(4, 4, 1)) == (0.0, 1.0)
