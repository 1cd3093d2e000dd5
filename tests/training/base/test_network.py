"""What is computed over a tree is what transformers computes for each of its sequences by itself."""

import random
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from transformers import LlamaForCausalLM

from tests.training.base.small import llama, network, planter
from training.base import adapter, businesses
from training.base import network as networks
from training.base.network import Network
from training.base.trees import AnswerTree, Mix, TreeRow, lay_out

PLANTER = planter()


def a_tree() -> AnswerTree:
    rng = random.Random(3)
    shops = list(businesses.load().values())[:3]
    return PLANTER.tree(
        businesses.sample_problem(shops, rng, businesses.BusinessDraw((3, 3), 0.0), 6), rng, Mix(0.7, 0.3)
    )


def merged(made: Network, model: LlamaForCausalLM) -> LlamaForCausalLM:
    for layer in range(model.config.num_hidden_layers):
        block = model.model.layers[layer]
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            getattr(block.self_attn, name).weight.data = made.merged_weight(layer, name).detach()
        for name in ("gate_proj", "up_proj", "down_proj"):
            getattr(block.mlp, name).weight.data = made.merged_weight(layer, name).detach()
    return model


def alone(model: LlamaForCausalLM, tree: AnswerTree) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and targets of every answer as a sequence of its own, in the order of the row."""
    logits, targets = [], []
    for suffix in tree.suffixes:
        before = tree.prefix + suffix.conversation
        for answer in suffix.answers:
            read = model(input_ids=torch.tensor([before + answer.tokens])).logits[0]
            for i, (token, kind) in enumerate(zip(answer.tokens, answer.targets, strict=True)):
                if kind is not None:
                    logits.append(read[len(before) + i - 1])
                    targets.append(token)
    return torch.stack(logits), torch.tensor(targets)


def test_a_tree_gives_the_logits_of_its_sequences() -> None:
    tree, model = a_tree(), llama(len(PLANTER.tokenizer))
    made = network(model)
    row = lay_out(tree, 10_000)
    expected, targets = alone(merged(made, model), tree)
    assert len(row.spans) == 1 + len(tree.suffixes) > 3
    assert torch.equal(row.targets_N, targets)
    torch.testing.assert_close(made(row), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.seconds
def test_and_their_gradient_also_where_the_row_is_read_in_pieces() -> None:
    tree, model = a_tree(), llama(len(PLANTER.tokenizer))
    made = network(model)
    row = lay_out(tree, 10_000)
    loss = F.cross_entropy(made(row), row.targets_N)
    loss.backward()
    found = {name: parameter.grad.clone() for name, parameter in made.changes.named_parameters()}
    # The reference: the merged weights as functions of the same factors, through transformers.
    made.zero_grad()
    weights = {
        f"model.layers.{layer}.{networks._room(name)}.{name}.weight": made.merged_weight(layer, name)
        for layer in range(2)
        for name in (*networks.ATTENTION, "o_proj", *networks.GATED, "down_proj")
    }
    expected = 0.0
    count = sum(kind is not None for b in tree.suffixes for a in b.answers for kind in a.targets)
    for suffix in tree.suffixes:
        for answer in suffix.answers:
            before = tree.prefix + suffix.conversation
            ids = torch.tensor([before + answer.tokens])
            read = torch.func.functional_call(model, weights, (), {"input_ids": ids}).logits[0]
            where = [i for i, kind in enumerate(answer.targets) if kind is not None]
            at = torch.tensor([len(before) + i - 1 for i in where])
            expected = (
                expected
                + F.cross_entropy(read[at], torch.tensor([answer.tokens[i] for i in where]), reduction="sum")
                / count
            )
    assert isinstance(expected, torch.Tensor)
    expected.backward()
    torch.testing.assert_close(loss, expected, atol=1e-4, rtol=1e-4)
    for name, parameter in made.changes.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, atol=1e-4, rtol=1e-3, msg=name)
    assert len(networks.segments(row)) > 2


def test_what_does_not_fit_is_left_out_whole() -> None:
    tree = a_tree()
    suffix = tree.suffixes[0]
    size = len(tree.prefix) + len(suffix.conversation) + sum(len(a.tokens) for a in suffix.answers)
    row: TreeRow = lay_out(tree._replace(suffixes=tree.suffixes[:2]), size)
    assert len(row.spans) == 2 and row.tokens == size


def test_an_adapter_comes_back_from_its_files_and_no_file_is_larger_than_allowed(tmp_path: Path) -> None:
    folder = tmp_path
    model = llama(300)
    made, other = network(model), Network(model, rank=4, alpha=8, dtype=torch.float32)
    adapter.save(made, folder, 4, 8)
    adapter.load_into(other, folder)
    for one, two in zip(made.changes.parameters(), other.changes.parameters(), strict=True):
        torch.testing.assert_close(one, two, atol=1e-2, rtol=1e-2)
    assert all(file.stat().st_size <= adapter.MAX_BYTES for file in folder.iterdir())
