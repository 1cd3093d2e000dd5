"""Means over seeds, differences within them, and the table."""

import json
from pathlib import Path

import pytest

from app.studies import comparison, plots, tables
from app.studies.held_out import at_least_one
from app.studies.matrix import Study
from app.studies.results import ArmResult, Cost, SeedResult, ValidationPoint
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


def test_of_one_seed_the_intervals_are_over_its_questions() -> None:
    (found,) = results((0.25, 0.5))
    found.arms["B"].measures["accuracy"] = Measure(value=0.5, n=50, ci95=(0.4, 0.6))
    found.arms["B"].over = {"accuracy": Measure(value=0.25, n=50, ci95=(0.1, 0.4))}
    text = comparison.markdown(STUDY, [found])
    assert text.startswith("# What it shows\n\nOne seed, 95 % intervals over its questions")
    cells = [line.split(" | ") for line in text.splitlines() if line.startswith("| B")]
    assert [of[1].rstrip(" |") for of in cells] == ["0.500 (0.400 to 0.600)", "0.250 (0.100 to 0.400)"]
    without = results((0.25, 0.5))
    assert "| B | 0.250 |" in comparison.markdown(STUDY, without)  # an older result, with no interval


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


@pytest.mark.seconds
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


def test_families_and_validations_on_the_way_have_tables_and_arms_share_a_stage_once() -> None:
    found = results((0.2, 0.3), (0.4, 0.5))
    for number, result in enumerate(found):
        share = Measure(value=0.5 + number / 10, n=9, ci95=None)
        result.arms["A"].families = {"swap": share, "novel (unseen)": share}
        way = [
            ValidationPoint(
                folder="sft-1",
                stage="sft",
                step=step,
                accuracy=0.5,
                perturbed=0.3,
                followed={"swap": step / 10},
            )
            for step in (4, 8)
        ]
        for arm in "AB":
            result.arms[arm].validated = way
    text = comparison.markdown(STUDY, found)
    assert "| arm | swap | novel (unseen) |" in text and "| B | – | – |" in text
    rows = [line for line in text.splitlines() if " sft | " in line]
    assert len(rows) == 2 and rows[1].startswith("| A | sft | 8 | 2 | 0.500 ± 0.000 | 0.800")


def validated(folder: str, step: int, perturbed: float) -> ValidationPoint:
    return ValidationPoint(
        folder=folder, stage="sft", step=step, accuracy=perturbed, perturbed=perturbed, followed={}
    )


def test_a_seed_that_ended_early_and_two_stages_of_one_kind_are_not_mixed_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = results((0.2, 0.3), (0.4, 0.5))
    for seed, result in enumerate(found):
        way = [validated(f"sft-a{seed}", 4, 0.1), validated(f"sft-a{seed}", 8, 0.2)][: 1 + seed]
        result.arms["A"].validated = [
            *way,
            validated(f"sft-b{seed}", 4, 0.5),
            validated(f"sft-b{seed}", 8, 0.7),
        ]
    rows = [line for line in comparison.markdown(STUDY, found).splitlines() if " sft | " in line]
    assert [row.removesuffix(" |").split(" | ")[2:5] for row in rows] == [
        ["4", "2", "0.100 ± 0.000"],
        ["8", "1", "0.200"],  # the other seed's stage had ended before
        ["4", "2", "0.500 ± 0.000"],
        ["8", "2", "0.700 ± 0.000"],
    ]
    drawn: list[tuple[object, ...]] = []
    monkeypatch.setattr("matplotlib.axes.Axes.plot", lambda _axes, *data, **_: drawn.append(data))
    plots._followed(STUDY, found, tmp_path / "followed.svg")
    assert drawn == [((4, 8), (pytest.approx(0.5), pytest.approx(0.7)), "-")]


def test_retention_stands_over_the_distance_to_the_base_in_one_plot(tmp_path: Path) -> None:
    found = results((0.2, 0.3), (0.4, 0.5))
    for result in found:
        for arm, nats in (("A", 0.1), ("B", 0.4)):
            values = {"retention": 0.9 - nats, "everyday": 0.8, "kl_to_base": nats}
            measures = {name: Measure(value=value, n=20, ci95=None) for name, value in values.items()}
            result.arms[arm].measures |= measures
    names = [path.name for path in plots.write(STUDY, found, tmp_path)]
    assert {"kl_to_base-retention.svg", "kl_to_base-everyday.svg"} <= set(names)
    assert (
        "| arm | accuracy | retention | sentences | KL to base | updates | s | tokens |"
        in comparison.markdown(STUDY, found)
    )


def test_what_the_base_knows_of_facts_that_it_reads_and_what_sweeps_chose_are_said() -> None:
    (found,) = results((0.2, 0.3))
    found.arms["base"] = marks(0.1)
    for kind in ("strict", "paraphrased", "indirect"):
        found.arms["base"].measures[f"{kind}, shown"] = Measure(value=0.75, n=40, ci95=None)
    found.arms["A"].chosen = {"learning_rate": 2e-4}
    text = comparison.markdown(STUDY, [found])
    assert "Shown the text, base answers: strict 0.750, paraphrased 0.750, indirect 0.750." in text
    assert "seed by seed: A: learning_rate 0.0002." in text
