"""A study's file: what it may say, which stages arms share, and what follows from a change."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app.errors import InputError
from app.studies import matrix
from app.studies.matrix import EXPERT, Chain, Study, StudySetup
from tests.app.studies.shipped import NAMES, training_study
from tests.evaluation.shop import SCHEMA
from training.config import Distill, Rl, Sft, Traces

GROUND = StudySetup(
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


NAMED = {
    "A+B": ["sft-eb322304a820", "distill-bf18f2c2a391"],
    "own, perturbed": ["traces-363d41218436", "sft-f600d88af0cf"],
}
THREE: dict[str, Any] = {
    "title": "t",
    "against": "A",
    "stages": {
        "own": {"kind": "traces"},
        "a": {"kind": "sft", "traces": "own"},
        "a_rl": {"kind": "rl", "after": "a"},
        "b": {"kind": "sft", "tenant": 1, "after": "a_rl", "traces": EXPERT},
        "c": {"kind": "distill", "tenant": 2, "after": "b"},
    },
    "arms": [{"name": "A", "stage": "c"}],
}


def grounds(ground: StudySetup) -> dict[int, StudySetup]:
    """Each tenant's data in a folder of its own, as their content is another."""

    def of(number: int) -> StudySetup:
        folder = ground.data.parent.with_name(f"tenant-{number}")
        own = {"data": folder / ground.data.name, "expert": folder / ground.expert.name}
        return ground._replace(**own, key=f"{ground.key}-{number}")

    return {0: ground, 1: of(1), 2: of(2)}


def chains(study: Study, ground: StudySetup = GROUND) -> dict[str, Chain]:
    return {row.name: matrix.chain(study, row, grounds(ground)) for row in study.rows}


def rows(study: Study, ground: StudySetup = GROUND) -> dict[str, list[str]]:
    return {name: [m.out.name for m in chain.stages] for name, chain in chains(study, ground).items()}


@pytest.mark.parametrize("name", NAMES)
def test_a_study_that_ships_can_be_run(name: str) -> None:
    study = training_study(name)
    matrix.check(study)
    for row in study.rows:
        chain = matrix.chain(study, row, grounds(GROUND))
        assert len(chain.steps) == len(study.tenants)
        assert chain.steps[-1] == chain.stages[-1]
        assert chain.stages[-1].stage.kind in ("sft", "distill", "rl")
        for manifest in chain.stages:
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
    stage = matrix.chain(study, row, grounds(GROUND)).stages[-1].stage
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


def test_a_stage_keeps_the_name_that_its_result_is_found_by() -> None:
    """Results that were made before there were several tenants are still found."""
    found = rows(Study.model_validate(CONTENT))
    assert {name: found[name] for name in NAMED} == NAMED


def test_a_chain_goes_from_tenant_to_tenant_and_is_measured_after_each() -> None:
    study = Study.model_validate(THREE)
    assert study.tenants == (0, 1, 2)
    assert study.steps("c") == ["a_rl", "b", "c"]
    chain = chains(study)["A"]
    own, first, rl, second, third = chain.stages
    assert chain.steps == [rl, second, third]
    assert (second.adapter, third.adapter) == (rl.out / "adapter", second.out / "adapter")
    assert [m.conversations.parent.name for m in chain.stages] == ["x", "x", "x", "tenant-1", "tenant-2"]
    assert first.traces == own.out / "traces.jsonl"
    assert second.traces == Path("/d/inputs/tenant-1/expert.jsonl")


def test_an_earlier_tenant_moves_what_was_learned_after_it() -> None:
    study = Study.model_validate(THREE)
    before, changed = rows(study)["A"], THREE | {"settings": {"rl": {"steps": 3}}}
    after = rows(Study.model_validate(changed))["A"]
    assert after[:2] == before[:2]
    assert not set(after[2:]) & set(before[2:])


def stage_of(name: str, **change: object) -> dict[str, Any]:
    return {"stages": THREE["stages"] | {name: THREE["stages"][name] | change}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (stage_of("b", tenant=3), "none of the 3 subjects"),
        (stage_of("b", traces="own"), "another tenant's"),
        (stage_of("c", tenant=0), r"through the tenants \(0, 1, 0\), and not \(0, 1\)"),
        ({"arms": [*THREE["arms"], {"name": "B", "stage": "b"}]}, r"\(0, 1\), and not \(0, 1, 2\)"),
        ({"pass_items": 24}, "one tenant only"),
        ({"suite_items": 5}, "fewer than 20 say nothing"),
        ({"suite_items": 0}, "nothing is measured"),
        ({"suite_items": 0, "knowledge": "velmarsh_bikes"}, "tenants in a row"),
        ({"bases": {"a b": {"model": "starter"}}}, "pattern"),
        ({"bases": {"a": {"width": 100, "minutes": 1}}}, "multiple of 64"),
        ({"bases": {"a": {"width": 64, "layers": 2, "minutes": 1}}}, "greater than or equal to 3"),
        ({"bases": {"a": {"model": "starter", "minutes": 1}}}, "Extra inputs"),
    ],
)
def test_tenants_and_bases_that_do_not_fit_together_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Study.model_validate(THREE | change)


def test_an_arm_stands_beside_those_of_its_own_base() -> None:
    one = Study.model_validate(CONTENT)
    assert (one.on_same_base("A: b", "base"), matrix.on_base("", "A")) == ("base", "A")
    several = Study.model_validate(CONTENT | {"bases": {"128": {"width": 128, "minutes": 40}}})
    assert several.on_same_base("128: A: b", "base") == matrix.on_base("128", "base") == "128: base"


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


def test_some_arms_of_a_study_keep_the_one_that_they_are_compared_with() -> None:
    some = training_study("progression").only(("labels alone", "SFT + SDFT"))
    assert [arm.name for arm in some.arms] == ["labels alone", "SFT", "SFT + SDFT"]
    varied = training_study("progression-starter")
    of_variants = varied.only((varied.arms[-1].name,))
    assert of_variants.against in {row.name for row in of_variants.rows}
    with pytest.raises(InputError, match="no arm 'labels'; it has: labels alone, SFT"):
        training_study("progression").only(("labels",))


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
    with pytest.raises(InputError, match="settings cannot be used"):
        matrix.check(study)


@pytest.mark.parametrize("name", NAMES)
def test_arms_of_a_shipped_study_learn_by_one_schedule(name: str) -> None:
    """Else they differ in how much they learn, and not in how: a cosine has half the sum of rates."""
    study = training_study(name)
    ground = dict.fromkeys(study.tenants, GROUND)
    stages = [
        stage.stage
        for row in study.rows
        for stage in matrix.chain(study, row, ground).stages
        if isinstance(stage.stage, Sft | Distill | Rl)
    ]
    assert len({stage.schedule for stage in stages}) == 1
    assert len({stage.warmup_steps for stage in stages}) == 1


@pytest.mark.parametrize(
    ("name", "compared", "updates"),
    [("progression", "SFT + GRPO", 56), ("progression-starter", "SFT + RL", 28)],
)
def test_rl_from_the_base_has_as_many_steps_as_what_it_is_compared_with(
    name: str, compared: str, updates: int
) -> None:
    study = training_study(name)
    grounds = dict.fromkeys(study.tenants, GROUND)
    rows = {row.name: matrix.chain(study, row, grounds).stages for row in study.rows}

    def steps(arm: str) -> int:
        made = [stage.stage for stage in rows[arm]]
        return sum(
            one.max_steps or 0 if isinstance(one, Sft) else one.steps
            for one in made
            if isinstance(one, Sft | Rl)
        )

    assert steps("RL from base") == steps(compared) == updates


def test_in_figure_6_all_arms_have_one_teacher_and_none_copies_what_it_is_shown() -> None:
    study = training_study("figure6")
    ground = GROUND._replace(brought=True)
    chains = {row.name: matrix.chain(study, row, {0: ground}) for row in study.rows}
    for chain in chains.values():
        shown = [
            m.stage.demonstrations
            for m in chain.stages
            if isinstance(m.stage, Distill | Traces) and m.stage.demonstrations
        ]
        assert shown and len({str(path) for path in shown}) == 1
    kl = chains["KL on the teacher's samples"].stages[-1]
    sft = chains["SFT on the teacher's samples"].stages[-1]
    assert isinstance(kl.stage, Distill) and kl.traces == sft.traces != kl.stage.demonstrations
