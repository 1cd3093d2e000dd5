"""Prompts that begin alike are read together, and the model knows no difference."""

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from training.engine.model import load_base
from training.generation.prefix.prefill import PromptGroup, grouped, read
from training.generation.rollouts import Sampling, sample

TRUNK, OTHER = list(range(5, 45)), list(range(50, 70))
PROMPTS = sorted([[*TRUNK, 7, 8, 9], [*TRUNK, 9], [*TRUNK, 9], [*OTHER, 4, 4], [*OTHER, 6], [90, 91, 92]])


@pytest.fixture
def model(base: Path) -> PreTrainedModel:
    return load_base(str(base)).eval()


@pytest.mark.parametrize(
    ("prompts", "groups"),
    [
        ([[1, 2, 3, 4], [1, 2, 3, 5, 6]], [PromptGroup(3, 2)]),
        ([[1, 2, 3, 4], [1, 2, 3, 4]], [PromptGroup(3, 2)]),  # each keeps its last token
        ([[1, 2, 3], [1, 2, 3, 4]], [PromptGroup(2, 2)]),
        (
            [[1, 2, 3, 4], [1, 2, 3, 5, 6, 7, 8, 9]],
            [PromptGroup(3, 1), PromptGroup(7, 1)],
        ),  # not half of the second
        ([[1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 6, 7]], [PromptGroup(2, 3)]),
        ([[1, 2], [3, 4], [3, 5]], [PromptGroup(1, 1), PromptGroup(1, 2)]),
        ([[1], [1]], [PromptGroup(0, 1), PromptGroup(0, 1)]),
    ],
)
def test_neighbours_are_read_together_where_they_share_half_of_a_prompt(
    prompts: list[list[int]], groups: list[PromptGroup]
) -> None:
    assert grouped(prompts) == groups


@torch.no_grad()
def test_what_comes_next_is_what_comes_after_the_whole_prompt(model: PreTrainedModel) -> None:
    found = read(model, PROMPTS, 0)
    for prompt, logits_V in zip(PROMPTS, found.logits_UV, strict=True):
        alone_V = model(input_ids=torch.tensor([prompt])).logits[0, -1]
        torch.testing.assert_close(logits_V, alone_V, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_prompt_of_one_token_beside_others_is_read_too(model: PreTrainedModel) -> None:
    found = read(model, [[3], *PROMPTS[:3]], 0)
    alone_V = model(input_ids=torch.tensor([[3]])).logits[0, -1]
    torch.testing.assert_close(found.logits_UV[0], alone_V, rtol=1e-4, atol=1e-4)


def test_what_is_shared_is_read_once(model: PreTrainedModel) -> None:
    seen = []
    model.get_input_embeddings().register_forward_hook(lambda _, given, out: seen.append(given[0].numel()))
    with torch.no_grad():
        read(model, PROMPTS[:3], 0)
    assert seen == [len(TRUNK), 3 * 3]


def test_completions_are_those_of_prompts_read_alone(model: PreTrainedModel) -> None:
    """Positions and padding too, as completions go on."""
    greedy = Sampling(1e-4, 12, 64)
    together = sample(model, PROMPTS[::-1], 2, greedy, [1], 0)
    alone = [sample(model, [prompt], 1, greedy, [1], 0)[0] for prompt in PROMPTS[::-1]]
    assert together == [completion for completion in alone for _ in range(2)]
