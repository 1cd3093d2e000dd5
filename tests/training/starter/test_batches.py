"""A row of training holds a schema once and several conversations; it must teach what separate sequences would."""

import random
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from evaluation.contract.render import choose_codes
from training.starter import problems, recipe, tokenizer
from training.starter.batches import BatchSource, Draw, Make, Shape, Suffix, Tree, batch, collate

WEIGHTS = Path(tokenizer.__file__).parent / "weights"


@pytest.fixture(scope="module")
def shipped() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast.from_pretrained(WEIGHTS)


@pytest.fixture(scope="module")
def source(shipped: PreTrainedTokenizerFast) -> BatchSource:
    codes = choose_codes(lambda text: shipped(text, add_special_tokens=False)["input_ids"], 101)
    return BatchSource(shipped, codes, None)


def model() -> Qwen3ForCausalLM:
    torch.manual_seed(0)
    config: Qwen3Config = recipe.config(128, 2)
    config._attn_implementation = "written_out"
    return Qwen3ForCausalLM(config)


def losses(tree: Tree, room: int) -> torch.Tensor:
    data = collate([tree], Shape(1, room), 0, 0.0, random.Random(0))
    data = data._replace(mask_B1TT=data.mask_B1TT.float())
    with torch.no_grad():
        _, each = recipe.loss_of(model(), *data[:-1])
    return each[data.weights > 0]


def test_a_branch_of_a_tree_costs_what_it_costs_alone() -> None:
    rng = random.Random(1)
    prefix = [rng.randrange(5, 4000) for _ in range(20)]
    suffixes = [Suffix([rng.randrange(5, 4000) for _ in range(n)], [7, 8, 9], (1,)) for n in (4, 9, 6)]
    together = losses(Tree(prefix, suffixes), 96)
    alone = torch.cat([losses(Tree(prefix, [suffix]), 96) for suffix in suffixes])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_the_codes_that_weigh_more_are_the_codes(
    source: BatchSource, shipped: PreTrainedTokenizerFast
) -> None:
    rng = random.Random(2)
    makers: tuple[Make, ...] = (
        source.lookup,
        lambda r: source.matching(r, Draw((2, 4), corpus_share=0.0, conditions=1.0)),
        lambda r: source.tree(problems.sample_problem(r, 3, 4), r, hinted=True),
    )
    for make in makers:
        data = batch(make, Shape(4, 512), rng, shipped.pad_token_id, 0.2)
        written = {shipped.decode([token]).strip() for token in data.targets[data.looked_up].tolist()}
        assert written
        assert written <= set(source.codes)
        assert data.weights[data.looked_up].min() > data.weights[~data.looked_up].max()


def test_the_first_words_of_a_quoted_condition_weigh_more_than_its_others(
    source: BatchSource, shipped: PreTrainedTokenizerFast
) -> None:
    draw = Draw((3, 4), corpus_share=0.0, conditions=0.0)
    data = batch(lambda r: source.task(r, draw), Shape(4, 512), random.Random(2), shipped.pad_token_id, 0.0)
    written = [shipped.decode([token]) for token in data.targets.tolist()]
    codes = data.looked_up.nonzero().flatten().tolist()
    assert len(codes) > 10
    for at in codes:
        assert written[at + 1] == ' "'
        assert data.weights[at + 2 : at + 5].min() > data.weights[at + 1] > 0


def test_a_branch_may_stand_as_far_from_the_trunk_as_if_a_conversation_were_between() -> None:
    data = collate(
        [Tree([5, 6, 7], [Suffix([8, 9], [10], (0,), gap=40)])], Shape(1, 16), 0, 0.0, random.Random(0)
    )
    assert data.positions_BT[0, :6].tolist() == [0, 1, 2, 43, 44, 45]


@pytest.mark.slow
def test_training_goes_on_from_a_checkpoint_and_from_shipped_weights(tmp_path: Path) -> None:
    options = recipe.parser().parse_args(
        ["--out", str(tmp_path), "--start", str(WEIGHTS), "--no-compile", "--minutes", "100"]
    )
    run = recipe.TrainingRun(options)
    before = [weight.clone() for weight in run.model.parameters()]
    assert torch.isfinite(torch.tensor(run.step()))
    run.save()
    assert any(not torch.equal(a, b) for a, b in zip(before, run.model.parameters(), strict=True))
    resumed = recipe.TrainingRun(options)
    assert resumed.counts.step == 1
    assert all(
        torch.equal(a, b) for a, b in zip(run.model.parameters(), resumed.model.parameters(), strict=True)
    )
