"""What is trained of the sentence encoder is what is served, and a training goes on from where it stood."""

from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation.contract.record import conversation_from_text
from evaluation.contract.schema import Category, CategorySchema
from evaluation.inference.likeness import TrainedLikeness
from training.base import businesses
from training.base.likeness import LikenessNetwork, gold
from training.base.likeness_recipe import LikenessTraining, find_none_as_often, held_out, parser

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
        Category(
            key="refund",
            name="Refund",
            definition="They want their money back.",
            excludes=("the money is for a lamp that broke", "who asks is a shop"),
        ),
        Category(key="odd", name="Odd", definition="?", includes=("a long one, " * 20, "ok")),
    ),
)
SAID = ["where is my parcel", "?", "i want my money back, and the lamp is broken " * 5, "Ünïcode 😀"]


@pytest.mark.parametrize("none_of_these", [True, False])
def test_served_with_numpy_it_says_what_it_said_when_it_was_trained(
    none_of_these: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = LikenessNetwork(rank=4, in_bf16=False)
    with torch.no_grad():
        for one in network.factors():
            one.copy_((torch.randn_like(one) * 0.03).half())
        network.token_weight_D.normal_(std=0.5)
        network.scalars["none_most"].fill_(0.2)
        network.scalars["aside_from"].fill_(0.1)
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
        assert all(torch.equal(state[which], first.optimizer.state[theirs][which]) for which in state)
        assert state["step"] == 1
    second.step()
    assert second.counts.step == 2 and f"{second.counts.conversations} conversations" in second.line()


def test_a_gradient_that_is_not_finite_ends_it_before_the_weights_are_touched(tmp_path: Path) -> None:
    options = parser().parse_args(["--out", str(tmp_path), "--problems", "1", "--rank", "2"])
    training = LikenessTraining(options)
    with torch.no_grad():
        training.network.scalars["late"].fill_(torch.nan)
    before = [one.detach().clone() for one in training.network.factors()]
    with pytest.raises(FloatingPointError, match="step 0"):
        training.step()
    assert all(torch.equal(one, was) for one, was in zip(training.network.factors(), before, strict=True))


def test_what_it_is_measured_on_is_no_part_of_what_it_learns() -> None:
    asked = [problem for name, problem in held_out(None) if name == "businesses"]
    assert {one.schema.name for one in asked} == set(businesses.FOR_BENCH)
    assert not {one.name for one in businesses.for_training(businesses.load())} & {
        one.schema.name for one in asked
    }
    shops = businesses.load()
    every = sum(len(shops[name].conversations) for name in businesses.FOR_BENCH)
    assert sum(len(one.examples) for one in asked) == every


def test_none_of_these_is_found_as_often_as_the_rest_whatever_the_threshold_was() -> None:
    problem = businesses.whole(businesses.load()["meal_voucher_app"], 108)
    conversations = [one.conversation for one in problem.examples]
    network, ends = LikenessNetwork(rank=2), []
    right = gold(problem.schema, conversations)
    none = right == len(problem.schema.answers) - 1
    assert 4 <= none.sum() < 50
    for off in (-5.0, 5.0):
        with torch.no_grad():
            network.scalars["none"].fill_(off)
        find_none_as_often(network, [problem])
        with torch.inference_mode():
            found = network(problem.schema, conversations).argmax(1) == right
        assert abs(found[none].float().mean() - found[~none].float().mean()) < 1 / none.sum()
        ends.append(network.scalars["none"].item())
    assert ends[0] == pytest.approx(ends[1], abs=1e-3)
