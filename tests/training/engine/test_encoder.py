"""The tenant's copy of the sentence encoder learns from its labels, once, and goes with every adapter after it."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from evaluation.contract.base_note import (
    ADAPTER_LIKENESS,
    EXAMPLE_CATEGORIES,
    EXAMPLE_CONDITIONS,
    EXAMPLES,
    KNOWN_CONDITIONS,
    LIKENESS_FILE,
    text_key,
)
from evaluation.contract.perturb import swap
from tests.training.shop import Tenant
from training.artifacts import StageFailed
from training.base import package
from training.base.likeness import LikenessNetwork, gold
from training.config import Sft, StageManifest
from training.engine import encoder
from training.engine.progress import EventWriter
from training.protocol import ADAPTER, CHECKPOINTS, EVENTS, FailureCode

pytestmark = pytest.mark.seconds


@pytest.fixture
def hearing(tmp_path: Path) -> Path:
    """The folder of a base that is read beside the encoder; nothing else of a base is looked at here."""
    folder = tmp_path / "base"
    (folder / LIKENESS_FILE).parent.mkdir(parents=True)
    shutil.copyfile(package.likeness_file(), folder / LIKENESS_FILE)
    return folder


def manifest(tenant: Tenant, traces: Path, base: Path, out: Path, **settings: Any) -> StageManifest:
    out.mkdir(exist_ok=True)
    return StageManifest.model_validate(
        {
            "stage": {"kind": "sft", "encoder_steps": 2, "encoder_learning_rate": 1e-3} | settings,
            "base": str(base),
            "category_schema": tenant.schema,
            "conversations": str(tenant.path),
            "traces": str(traces),
            "out": str(out),
        }
    )


def learn(told: StageManifest) -> dict[str, Any]:
    assert isinstance(told.stage, Sft)
    return encoder.learn(told, told.stage, EventWriter(told.out, "sft"))


def loss(tenant: Tenant, file: Path) -> float:
    network = LikenessNetwork.trained(file)
    with torch.inference_mode():
        shares = network(tenant.schema, tenant.conversations)
    return float(torch.nn.functional.nll_loss(shares, gold(tenant.schema, tenant.conversations)))


def test_it_learns_from_the_labels_and_is_left_for_the_adapter(
    tenant: Tenant, traces: Path, hearing: Path, tmp_path: Path
) -> None:
    odd = tenant._replace(schema=swap(tenant.schema, "refund", "login").schema)  # what nobody would guess
    told = manifest(odd, traces, hearing, tmp_path / "out", encoder_steps=4)
    metrics = learn(told)
    left = told.out / CHECKPOINTS / ADAPTER_LIKENESS
    assert metrics["encoder_steps"] == 4 and 0 < metrics["encoder_label_accuracy_last"] <= 1
    assert loss(odd, left) < loss(odd, package.likeness_file()) - 1
    assert "sentence encoder, step 4 of 4" in (told.out / EVENTS).read_text()
    # What was labelled goes with it, by what decided.
    tensors = load_file(left)
    known, labelled = tensors[KNOWN_CONDITIONS].tolist(), [c for c in odd.conversations if c.labelled]
    answers = {one.category for one in labelled}
    assert tensors[EXAMPLES].shape[0] == min(len(labelled), 48 * len(answers))
    assert set(known) == {text_key(text) for one in odd.schema.categories for text in one.clauses}
    assert set(tensors[EXAMPLE_CONDITIONS].tolist()) <= {*known, text_key(None)}
    assert set(tensors[EXAMPLE_CATEGORIES].tolist()) == {text_key(one) for one in answers}
    # An attempt that goes on has it already.
    was = left.read_bytes()
    assert learn(told) == metrics and left.read_bytes() == was
    # One that was cut off before it could tell them begins again.
    left.with_suffix(".json").unlink()
    assert learn(told)["encoder_steps"] == 4


def test_conversations_of_a_category_that_a_schema_lacks_are_none_of_these(
    tenant: Tenant, traces: Path, hearing: Path, tmp_path: Path
) -> None:
    told = manifest(tenant, traces, hearing, tmp_path / "out")
    assert isinstance(told.stage, Sft)
    training, batch = encoder._EncoderTraining(told, told.stage), tenant.conversations[:24]
    shown = [training._shown(batch) for _ in range(60)]
    whole = [conversations for schema, conversations in shown if schema == tenant.schema]
    assert 0 < len(whole) < 60 and all(one == batch for one in whole)
    moved = 0
    for schema, conversations in shown:
        for before, after in zip(batch, conversations, strict=True):
            stays = before.category is None or before.category in schema.keys
            assert after.category == (before.category if stays else None) and after.category in schema.answers
            moved += not stays
    assert moved > 100


def test_it_goes_with_the_adapter_and_with_those_that_go_on_from_that(
    tenant: Tenant, traces: Path, hearing: Path, tmp_path: Path
) -> None:
    first = manifest(tenant, traces, hearing, tmp_path / "first", encoder_steps=1)
    learn(first)
    for folder in ("first", "second"):
        (tmp_path / folder / ADAPTER).mkdir(parents=True)
    encoder.bring_along(first)
    made = first.out / ADAPTER / ADAPTER_LIKENESS
    second = manifest(tenant, traces, hearing, tmp_path / "second").model_copy(
        update={"adapter": first.out / ADAPTER}
    )
    encoder.bring_along(second)
    assert (second.out / ADAPTER / ADAPTER_LIKENESS).read_bytes() == made.read_bytes()


def test_it_takes_half_of_the_seconds_at_most(
    tenant: Tenant, traces: Path, hearing: Path, tmp_path: Path
) -> None:
    told = manifest(tenant, traces, hearing, tmp_path / "out", encoder_steps=500, max_seconds=3)
    assert 1 <= learn(told)["encoder_steps"] < 100


def test_what_it_will_take_is_counted_from_a_step_before_there_are_traces(
    tenant: Tenant, hearing: Path, tmp_path: Path
) -> None:
    told = manifest(tenant, tmp_path / "not-yet.jsonl", hearing, tmp_path / "out", encoder_steps=100)
    assert isinstance(told.stage, Sft)
    assert encoder.takes_s(told, told.stage) > 1
    assert encoder.takes_s(told, told.stage.model_copy(update={"encoder_steps": 0})) == 0


@pytest.mark.parametrize("settings", [{"encoder_steps": 0}, {"text": "/tmp/knowledge.jsonl"}])
def test_nothing_is_learned_where_nobody_wants_it(
    settings: dict[str, Any], tenant: Tenant, traces: Path, hearing: Path, tmp_path: Path
) -> None:
    told = manifest(tenant, traces, hearing, tmp_path / "out", **settings)
    assert learn(told) == {} and not (told.out / CHECKPOINTS).exists()


def test_nothing_is_learned_that_nobody_would_hear(
    tenant: Tenant, traces: Path, hearing: Path, tmp_path: Path
) -> None:
    asking = tenant.schema.model_copy(update={"question": "Who has to look at this?"})
    assert learn(manifest(tenant._replace(schema=asking), traces, hearing, tmp_path / "out")) == {}


def test_a_base_that_is_read_alone_gets_none(tenant: Tenant, traces: Path, tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    told = manifest(tenant, traces, tmp_path / "alone", tmp_path / "out")
    assert learn(told) == {}
    encoder.bring_along(told)
    assert not (told.out / ADAPTER).exists()


def test_a_gradient_that_is_not_finite_ends_the_stage(
    tenant: Tenant, traces: Path, hearing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = manifest(tenant, traces, hearing, tmp_path / "out")
    trained = LikenessNetwork.trained

    def spoilt(file: Path) -> LikenessNetwork:
        network = trained(file)
        with torch.no_grad():
            network.scalars["late"].fill_(torch.nan)
        return network

    monkeypatch.setattr(LikenessNetwork, "trained", spoilt)
    with pytest.raises(StageFailed, match="encoder_learning_rate") as failed:
        learn(told)
    assert failed.value.code is FailureCode.non_finite_loss
    assert not (told.out / CHECKPOINTS).exists()
