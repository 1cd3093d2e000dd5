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

from training.engine.padding import left_padded, positions

WORTH_IT = 0.5  # of a prompt: a shorter beginning in common is not read apart


class ReadPrompts(NamedTuple):
    """logits_UV: of the first token to come."""

    logits_UV: Tensor
    mask_UL: Tensor
    cache: Cache


class _Begun(NamedTuple):
    """What is read already, and what each prompt has of its own; without a cache that is all of it."""

    mask_UP: Tensor
    cache: Cache | None
    own: list[list[int]]


class PromptGroup(NamedTuple):
    """How many tokens its prompts share, and how many prompts it has."""

    shared: int
    size: int


def read(causal_lm: PreTrainedModel, prompts: list[list[int]], pad: int) -> ReadPrompts:
    """prompts: sorted, so that those that begin alike stand together."""
    mask_UP, cache, own = _begun(causal_lm, prompts, pad)
    ids_UT, mask_UT = left_padded(own, pad, mask_UP.device)
    mask_UL = torch.cat([mask_UP, mask_UT], dim=1)
    out = causal_lm(
        input_ids=ids_UT,
        attention_mask=mask_UL,
        position_ids=positions(mask_UL)[:, mask_UP.size(1) :],
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return ReadPrompts(out.logits[:, -1], mask_UL, out.past_key_values)


def _begun(causal_lm: PreTrainedModel, prompts: list[list[int]], pad: int) -> _Begun:
    where, groups = next(causal_lm.parameters()).device, grouped(prompts)
    # A beginning of no tokens would be a row of nothing but padding, for which attention has no answer.
    if len(groups) == len(prompts) or not all(group.shared for group in groups):
        return _Begun(torch.ones(len(prompts), 0, dtype=torch.long, device=where), None, prompts)
    of_U = [number for number, group in enumerate(groups) for _ in range(group.size)]
    prefixes = [prompts[of_U.index(number)][: group.shared] for number, group in enumerate(groups)]
    ids_GP, mask_GP = left_padded(prefixes, pad, where)
    out = causal_lm.base_model(
        input_ids=ids_GP, attention_mask=mask_GP, position_ids=positions(mask_GP), use_cache=True
    )
    indices_U = torch.tensor(of_U, device=where)
    out.past_key_values.batch_select_indices(indices_U)
    own = [prompt[groups[number].shared :] for number, prompt in zip(of_U, prompts, strict=True)]
    return _Begun(mask_GP[indices_U], out.past_key_values, own)


def grouped(prompts: list[list[int]]) -> list[PromptGroup]:
    """Neighbours that share enough. Each prompt keeps its last token at least, after which the first one is drawn."""
    groups: list[PromptGroup] = []
    start = 0
    for number, prompt in enumerate(prompts):
        if groups:
            shared = min(groups[-1].shared, alike(prompts[start], prompt), len(prompt) - 1)
            if worth_sharing(shared, prompt):
                groups[-1] = PromptGroup(shared, groups[-1].size + 1)
                continue
        start = number
        groups.append(PromptGroup(len(prompt) - 1, 1))
    return groups


def worth_sharing(shared: int, prompt: list[int]) -> bool:
    return shared >= WORTH_IT * len(prompt)


def alike(one: list[int], other: list[int]) -> int:
    """Tokens that both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
