"""A study that was run before is read from what it left, and not run again."""

import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from app.cli.console import ConsoleReporter
from app.errors import InputError
from app.serving.base import STARTER, find_base
from app.settings import Settings
from app.studies import study
from app.studies.matrix import Existing
from app.studies.preparing import StudyFolder, prepare
from app.studies.results import ArmResult, Cost, SeedResult
from app.studies.study import StudyRequest
from evaluation.metrics.measures import Measure
from tests.app.studies.shipped import training_study
from training.config import StageManifest


def leave(asked: StudyRequest, seed: int, base: str, accuracy: float) -> None:
    """The result of a seed on a base, as a run leaves it."""
    folder = asked.out / f"seed-{seed}"
    prepared = prepare(asked.study, StudyFolder(seed, find_base(base), folder, ""))
    measures = {"accuracy": Measure(value=accuracy, n=10, ci95=None)}
    arms = {name: ArmResult(measures=measures, cost=Cost(wall_s=1, tokens=1)) for name in prepared.chains}
    kept = SeedResult(key=prepared.key, seed=seed, arms=arms)
    (folder / f"result-{prepared.key[:12]}.json").write_text(kept.model_dump_json())


@pytest.mark.seconds
def test_arms_on_several_bases_are_told_apart_by_the_name_of_theirs(tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(find_base(STARTER).folder, other)
    (other / "generation_config.json").write_text("{}")
    bases = {"mine": Existing(model=str(other)), "shipped": Existing(model=STARTER)}
    asked = StudyRequest(training_study("size").model_copy(update={"bases": bases}), 1, tmp_path / "out")
    asked.out.mkdir()
    (asked.out / "run.json").write_text("{}")
    leave(asked, 0, str(other), 0.3)
    leave(asked, 0, STARTER, 0.7)
    (found,) = study.run(asked, Settings(), ConsoleReporter(io.StringIO()))
    stages = ["base", "SFT", "SFT + OPD", "SFT + OPD + RL"]
    assert list(found.arms) == [f"{base}: {stage}" for base in bases for stage in stages]
    assert {arm: marks.measures["accuracy"].value for arm, marks in found.arms.items()} == {
        arm: 0.3 if arm.startswith("mine") else 0.7 for arm in found.arms
    }


@pytest.mark.seconds
def test_each_seed_is_a_result_of_its_own(tmp_path: Path) -> None:
    plain = training_study("size").model_copy(update={"bases": {}})
    asked = StudyRequest(plain, 2, tmp_path / "out")
    asked.out.mkdir()
    (asked.out / "run.json").write_text("{}")
    for seed in range(2):
        leave(asked, seed, STARTER, 0.1 * seed)
    found = study.run(asked, Settings(), ConsoleReporter(io.StringIO()))
    assert [one.seed for one in found] == [0, 1]
    assert list(found[0].arms) == ["base", *(row.name for row in plain.rows)]
    assert found[1].arms["SFT"].measures["accuracy"].value == 0.1


def test_the_updates_of_a_chain_are_those_of_its_stages_that_learn_and_a_lost_result_is_said(
    tmp_path: Path,
) -> None:
    """The traces, whose count is of conversations, come first in the chain. Each stage was stopped once: two seconds of
    the first process, an hour of nothing, three of the second."""
    prepared = prepare(training_study("figure6"), StudyFolder(0, find_base(STARTER), tmp_path, "seed 0"))
    stages = prepared.tries["SFT on the teacher's samples"][0].stages
    assert stages[0].stage.kind == "traces" and stages[-1].stage.kind == "sft"
    for number, manifest in enumerate(stages):
        manifest.out.mkdir(parents=True)
        body = {"status": "succeeded", "manifest_sha256": "", "step": 7 + number, "wall_s": 3, "tokens": 5}
        (manifest.out / "result.json").write_text(json.dumps(body))
        said = [
            ("started", "10:00:00"),
            ("metric", "10:00:02"),
            ("started", "11:00:00"),
            ("finished", "11:00:03"),
        ]
        lines = [json.dumps({"event": event, "at": f"2026-01-01T{at}+00:00"}) for event, at in said]
        (manifest.out / "events.jsonl").write_text("\n".join(lines) + "\n")
    cost = study._cost(stages)
    assert (cost.updates, cost.wall_s, cost.tokens) == (6 + len(stages), 5 * len(stages), 5 * len(stages))
    (stages[0].out / "result.json").unlink()
    with pytest.raises(InputError, match="has lost its result"):
        study._cost(stages)


def test_what_is_left_of_a_seed_is_estimated_before_it_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = training_study("progression")
    prepared = prepare(chosen, StudyFolder(0, find_base(STARTER), tmp_path, "seed 0"))
    asked: list[tuple[int, int]] = []
    shown = io.StringIO()

    def estimated(left: Sequence[StageManifest], evaluated: int) -> dict[str, float]:
        asked.append((len(left), evaluated))
        return {"minutes": 140.4}

    monkeypatch.setattr(study.estimate, "estimate", estimated)
    monkeypatch.setattr(study, "run_stage", lambda *_: asked.append((0, 0)))
    study._train(prepared, Settings(), ConsoleReporter(shown))
    answers = (chosen.suite_items + chosen.retention_items) * (1 + len(chosen.rows))
    assert asked[0] == (len(asked) - 1, answers)
    assert "about 140 minutes" in shown.getvalue()
