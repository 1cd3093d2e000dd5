"""What is trained of the sentence encoder is what is served, and a training goes on from where it stood."""

from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation.contract.record import conversation_from_text
from evaluation.contract.schema import Category, CategorySchema
from evaluation.inference.likeness import TrainedLikeness
from training.base import businesses
from training.base.likeness import LikenessNetwork
from training.base.likeness_recipe import LikenessTraining, gold_of, held_out, parser

pytestmark = pytest.mark.seconds
SCHEMA = CategorySchema(
    name="shop",
    none_of_these=True,
    categories=(
        Category(
            key="late",
            name="Late",
            definition="The customer asks where a parcel is.",
            includes=("it is lost",),
        ),
        Category(key="refund", name="Refund", definition="They want their money back."),
        Category(key="odd", name="Odd", definition="?", includes=("a long one, " * 20, "ok")),
    ),
)
SAID = ["where is my parcel", "?", "i want my money back, and the lamp is broken " * 5, "Ünïcode 😀"]


@pytest.mark.parametrize("none_of_these", [True, False])
def test_served_with_numpy_it_says_what_it_said_when_it_was_trained(
    none_of_these: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = LikenessNetwork(rank=4)
    with torch.no_grad():
        for one in network.factors():
            one.copy_((torch.randn_like(one) * 0.03).half())
        network.token_weight_D.normal_(std=0.5)
        network.scalars["none_most"].fill_(0.2)
    network.save(tmp_path / "likeness.safetensors")
    served = TrainedLikeness(tmp_path / "likeness.safetensors")
    schema = SCHEMA.model_copy(update={"none_of_these": none_of_these})
    conversations = [conversation_from_text(text) for text in SAID]
    with torch.no_grad():
        trained = network(schema, conversations)
    for row, conversation in zip(trained, conversations, strict=True):
        found = served.log_shares(schema, conversation)
        assert list(found) == list(schema.answers)
        # tokens are kept in half precision
        assert np.abs(np.array(list(found.values())) - row.numpy()).max() < 0.02


def test_a_step_learns_and_the_next_sitting_goes_on_from_the_last(tmp_path: Path) -> None:
    options = parser().parse_args(
        ["--out", str(tmp_path), "--minutes", "60", "--problems", "1", "--rank", "2"]
    )
    first = LikenessTraining(options)
    before = [one.detach().clone() for one in first.network.factors()]
    first.step()
    assert any((one != was).any() for one, was in zip(first.network.factors(), before, strict=True))
    first.save()
    second = LikenessTraining(options)
    assert second.counts.step == 1 and second.counts.conversations == first.counts.conversations
    assert second.rng.getstate() == first.rng.getstate()
    for ours, theirs in zip(second.network.factors(), first.network.factors(), strict=True):
        assert torch.equal(ours, theirs)
        state = second.optimizer.state[ours]
        assert torch.equal(state["exp_avg"], first.optimizer.state[theirs]["exp_avg"])
    second.step()
    assert second.counts.step == 2 and "right" in second.line()


def test_what_it_is_measured_on_is_no_part_of_what_it_learns() -> None:
    asked = [problem for name, problem in held_out(None) if name == "businesses"]
    assert {one.schema.name for one in asked} == set(businesses.FOR_BENCH)
    assert not {one.name for one in businesses.for_training(businesses.load())} & {
        one.schema.name for one in asked
    }
    assert all(gold_of(one).max() < len(one.schema.answers) for one in asked)
