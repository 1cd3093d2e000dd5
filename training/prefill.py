"""Prompts read before their completions are written, with what several of them begin with read once.

Prompts of a step stand under few drawings of the schema, which is most of their tokens.

Axes: U prompts, G groups of prompts that begin alike, P tokens of what a group shares (left-padded), T tokens of what a
prompt has of its own (left-padded), L = P + T, V vocabulary.
"""

from itertools import takewhile
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from training.padding import left_padded, positions

WORTH_IT = 0.5  # of a prompt: a shorter beginning in common is not read apart


class Read(NamedTuple):
    """logits_UV: of the first token to come."""

    logits_UV: Tensor
    mask_UL: Tensor
    cache: Cache


class Group(NamedTuple):
    """How many tokens its prompts share, and how many prompts it has."""

    shared: int
    size: int


def read(causal_lm: PreTrainedModel, prompts: list[list[int]], pad: int) -> Read:
    """prompts: sorted, so that those that begin alike stand together."""
    where = next(causal_lm.parameters()).device
    groups = grouped(prompts)
    if len(groups) == len(prompts) or not all(group.shared for group in groups):
        ids_UL, mask_UL = left_padded(prompts, pad, where)
        cache, mask_UP = None, mask_UL[:, :0]
    else:
        starts = [sum(group.size for group in groups[:number]) for number in range(len(groups))]
        trunks = [prompts[start][: group.shared] for start, group in zip(starts, groups, strict=True)]
        ids_GP, mask_GP = left_padded(trunks, pad, where)
        out = causal_lm.base_model(
            input_ids=ids_GP, attention_mask=mask_GP, position_ids=positions(mask_GP), use_cache=True
        )
        sizes_G = torch.tensor([group.size for group in groups], device=where)
        of_U = torch.repeat_interleave(torch.arange(len(groups), device=where), sizes_G)
        cache, mask_UP = out.past_key_values, mask_GP[of_U]
        cache.batch_select_indices(of_U)
        own = [prompt[groups[g].shared :] for g, prompt in zip(of_U.tolist(), prompts, strict=True)]
        ids_UL, mask_UT = left_padded(own, pad, where)
        mask_UL = torch.cat([mask_UP, mask_UT], dim=1)
    out = causal_lm(
        input_ids=ids_UL,
        attention_mask=mask_UL,
        position_ids=positions(mask_UL)[:, mask_UP.size(1) :],
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return Read(out.logits[:, -1], mask_UL, out.past_key_values)


def grouped(prompts: list[list[int]]) -> list[Group]:
    """Neighbours that share enough. Each prompt keeps its last token at least, after which the first one is drawn."""
    groups: list[Group] = []
    start = 0
    for number, prompt in enumerate(prompts):
        if groups:
            shared = min(groups[-1].shared, _alike(prompts[start], prompt), len(prompt) - 1)
            if shared >= WORTH_IT * len(prompt):
                groups[-1] = Group(shared, groups[-1].size + 1)
                continue
        start = number
        groups.append(Group(len(prompt) - 1, 1))
    return groups


def _alike(one: list[int], other: list[int]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
