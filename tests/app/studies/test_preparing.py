"""A seed on disk: each tenant's conversations, and the stages and models that follow from them."""

import json
from pathlib import Path

import pytest

from app.errors import InputError
from app.runs.output import Output, write_inputs
from app.serving.base import STARTER, find_base
from app.studies import matrix, measuring
from app.studies.preparing import PreparedStudy, StudyFolder, best, prepare
from app.studies.results import BASE_ARM
from evaluation.contract.record import Split
from tests.app.studies.shipped import training_study
from training.starter.world import TRADES


def prepared(name: str, folder: Path, **change: int) -> PreparedStudy:
    study = training_study(name).model_copy(update=change)
    return prepare(study, StudyFolder(1, find_base(STARTER), folder, "seed 1"))


def test_each_tenant_has_its_own_conversations_and_traces(tmp_path: Path) -> None:
    found = prepared("continual-starter", tmp_path)
    assert [inputs.schema.name for inputs in found.tenants] == ["demo", "bank", "travel"]
    for chain in found.chains.values():
        for manifest in chain.stages:
            first = json.loads(manifest.conversations.read_text().splitlines()[0])
            assert first["category"] in (*manifest.category_schema.keys, None)
            if manifest.traces is not None:
                assert manifest.traces.parent == manifest.conversations.parent
    assert len({m.conversations for c in found.chains.values() for m in c.stages}) == 3


def test_an_expert_writes_of_what_is_learned_from_and_of_nothing_else(tmp_path: Path) -> None:
    """This seed's tenant repeats five of its held-out conversations in training, and SFT wants a trace to fit."""
    found = prepared("sdft", tmp_path)
    (inputs,) = found.tenants
    folder = write_inputs(Output(tmp_path), inputs)
    rows = {name: (folder / name).read_text().splitlines() for name in ("train.jsonl", "expert.jsonl")}
    learned, written = ([json.loads(row)["id"] for row in of] for of in rows.values())
    assert learned == written == [c.id for c in inputs.splits[Split.train]]
    assert len(learned) == 395


@pytest.mark.seconds
def test_every_arm_is_measured_after_each_tenant_and_the_base_once(tmp_path: Path) -> None:
    models = measuring._models(prepared("continual-starter", tmp_path))
    assert models[BASE_ARM] == {}
    assert list(models["SFT"]) == ["SFT, step 1", "SFT, step 2", "SFT, step 3"]
    assert len({out for of_arm in models.values() for out in of_arm.values()}) == 3 * 3
    alone = measuring._models(prepared("size", tmp_path))
    assert list(alone["SFT + OPD"]) == ["SFT + OPD"]


@pytest.mark.seconds
def test_a_result_is_kept_under_what_it_follows_from(tmp_path: Path) -> None:
    key = prepared("continual-starter", tmp_path).key
    assert prepared("continual-starter", tmp_path).key == key
    assert prepared("continual-starter", tmp_path, retention_items=61).key != key


def test_continued_pretraining_reads_a_handbook_that_names_the_tenants_products(tmp_path: Path) -> None:
    chains = prepared("sdft", tmp_path).chains
    (handbook_stage,) = chains["CPT on the handbook"].stages
    assert handbook_stage.stage.kind == "sft"
    assert handbook_stage.stage.text is not None
    texts = [json.loads(line)["text"] for line in handbook_stage.stage.text.read_text().splitlines()]
    assert all(any(product in text for product in TRADES[0].products) for text in texts)
    assert chains["CPT + SFT"].stages[0].out == handbook_stage.out


def test_of_what_an_arm_is_swept_over_the_best_on_the_validation_split_is_measured(tmp_path: Path) -> None:
    """By accuracy under both schemas. What was not validated is not chosen, and nothing is chosen without it."""
    made = prepared("figure6", tmp_path)
    tries = made.tries["SDFT, on policy"]
    assert [chain.tried["learning_rate"] for chain in tries] == [1e-4, 4e-4]
    assert len({chain.stages[-1].out for chain in tries}) == 2 and len(made.stages) == 2 + 6
    with pytest.raises(InputError, match="has no validation by which it could be chosen"):
        best(tries)
    for chain, (accuracy, perturbed) in zip(tries, [(0.9, 0.1), (0.6, 0.7)], strict=True):
        last = chain.stages[-1]
        metrics = {"validation_accuracy": accuracy, "validation_perturbed": perturbed}
        result = {"status": "succeeded", "manifest_sha256": last.sha256, "metrics": metrics}
        last.out.mkdir(parents=True)
        (last.out / "result.json").write_text(json.dumps(result))
    assert best(tries) == tries[1]
    with pytest.raises(InputError, match="has no validation"):
        _ = made.chains  # those of the other arms
    assert made.key == prepared("figure6", tmp_path).key


def test_a_sweep_that_nothing_can_choose_in_is_refused() -> None:
    study = training_study("figure6")
    settings = {kind: {**of} for kind, of in study.settings.items()}
    del settings["distill"]["validate_every"]
    with pytest.raises(InputError, match="needs validate_every"):
        matrix.check(study.model_copy(update={"settings": settings}))
