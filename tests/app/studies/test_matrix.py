"""A study's file: what it may say, which stages arms share, and what follows from a change."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app.errors import InputError
from app.studies import matrix
from app.studies.matrix import EXPERT, Ground, Study
from tests.evaluation.shop import SCHEMA
from training.config import Distill, Rl, Sft

GROUND = Ground(
    "base",
    Path("/d/inputs/x/train.jsonl"),
    Path("/d/inputs/x/expert.jsonl"),
    SCHEMA,
    Path("/d/stages"),
    3,
    "k",
)
CONTENT: dict[str, Any] = {
    "title": "t",
    "against": "A",
    "perturb": (False, True),
    "settings": {"sft": {"epochs": 3.0, "lora": {"rank": 4}}, "distill": {"steps": 2}},
    "stages": {
        "own": {"kind": "traces"},
        "a": {"kind": "sft", "traces": EXPERT},
        "own_a": {"kind": "sft", "traces": "own", "settings": {"lora": {"alpha": 9}}},
        "b": {"kind": "distill", "after": "a", "traces": EXPERT},
    },
    "arms": [{"name": "A", "stage": "a"}, {"name": "own", "stage": "own_a"}, {"name": "A+B", "stage": "b"}],
}


def rows(study: Study, ground: Ground = GROUND) -> dict[str, list[str]]:
    return {row.name: [m.out.name for m in matrix.chain(study, row, ground)] for row in study.rows}


@pytest.mark.parametrize("name", matrix.names())
def test_a_study_that_ships_can_be_run(name: str) -> None:
    study = matrix.read(name)
    for row in study.rows:
        chain = matrix.chain(study, row, GROUND)
        assert chain[-1].stage.kind in ("sft", "distill", "rl")
        for manifest in chain:
            stage = manifest.stage
            if isinstance(stage, Sft | Distill | Rl):
                assert stage.max_seconds is None, "what a stage learns must not depend on the machine"
                assert row.perturb is None or stage.perturb is row.perturb


def test_arms_share_what_they_begin_with_and_variants_what_does_not_differ() -> None:
    found = rows(Study.model_validate(CONTENT))
    assert list(found) == ["A", "own", "A+B", "A, perturbed", "own, perturbed", "A+B, perturbed"]
    assert found["A+B"][0] == found["A"][0] != found["A, perturbed"][0]
    assert found["own"][0] == found["own, perturbed"][0]  # traces know of no perturbation
    assert len({chain[-1] for chain in found.values()}) == 6


def test_settings_of_an_arm_go_over_those_of_the_study() -> None:
    study = Study.model_validate(CONTENT)
    row = next(row for row in study.rows if row.name == "own")
    stage = matrix.chain(study, row, GROUND)[-1].stage
    assert isinstance(stage, Sft)
    assert (stage.epochs, stage.lora.rank, stage.lora.alpha) == (3.0, 4, 9)


def test_a_change_moves_only_what_follows_from_it() -> None:
    before = rows(Study.model_validate(CONTENT))
    changed = CONTENT | {"settings": CONTENT["settings"] | {"distill": {"steps": 3}}}
    after = rows(Study.model_validate(changed))
    assert after["A"] == before["A"] and after["own"] == before["own"]
    assert after["A+B"][0] == before["A+B"][0] and after["A+B"][1] != before["A+B"][1]
    for ground in (GROUND._replace(seed=4), GROUND._replace(key="other")):
        moved = rows(Study.model_validate(CONTENT), ground)
        assert not {n for chain in moved.values() for n in chain} & {
            n for chain in before.values() for n in chain
        }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"against": "nobody"}, "no stage is named 'nobody'"),
        ({"arms": [{"name": "A", "stage": "c"}]}, r"no stage is named \['c'\]"),
        (
            {"stages": {"a": {"kind": "sft", "traces": "later"}}, "arms": [{"name": "A", "stage": "a"}]},
            "'later'",
        ),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_file_that_does_not_fit_together_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Study.model_validate(CONTENT | change)


def test_a_study_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="progression"):
        matrix.read("regression")
    with pytest.raises(InputError, match="cannot be read"):
        matrix.read(str(tmp_path / "none.toml"))
    bad = tmp_path / "bad.toml"
    bad.write_text("title = ")
    with pytest.raises(InputError, match="cannot be used"):
        matrix.read(str(bad))


def test_settings_that_no_stage_has_are_refused_before_anything_runs() -> None:
    study = Study.model_validate(CONTENT | {"settings": {"sft": {"epoch": 1}}})
    with pytest.raises(InputError, match="settings cannot be used") as refused:
        rows(study)
    assert "epoch" in str(refused.value.details)
