"""Prompts read before their completions are written, with what several of them begin with read once.

Prompts of a step stand under few drawings of the schema, which is most of their tokens.

Axes: U prompts, G groups of prompts that begin alike, P tokens of what a group shares (left-padded), T tokens of what a
prompt has of its own (left-padded), L = P + T, V vocabulary.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from training.engine.padding import left_padded, positions
from training.generation.prefix.reading import read_prefixes, shared_tokens

WORTH_IT = 0.5  # of a prompt: a shorter beginning in common is not read apart


class ReadPrompts(NamedTuple):
    """logits_UV: of the first token to come."""

    logits_UV: Tensor
    mask_UL: Tensor
    cache: Cache


class PromptGroup(NamedTuple):
    """How many tokens its prompts share, and how many prompts it has."""

    shared: int
    size: int


def read(causal_lm: PreTrainedModel, prompts: list[list[int]], pad: int) -> ReadPrompts:
    """prompts: sorted, so that those that begin alike stand together."""
    where, groups = next(causal_lm.parameters()).device, grouped(prompts)
    # A beginning of no tokens would be a row of nothing but padding, for which attention has no answer.
    if len(groups) == len(prompts) or not all(group.shared for group in groups):
        ids_UL, mask_UL = left_padded(prompts, pad, where)
        context = {"attention_mask": mask_UL, "position_ids": positions(mask_UL)}
        return _read(causal_lm, ids_UL, context)
    of_U = [number for number, group in enumerate(groups) for _ in range(group.size)]
    prefixes = [prompts[of_U.index(number)][: group.shared] for number, group in enumerate(groups)]
    own = [prompt[groups[number].shared :] for number, prompt in zip(of_U, prompts, strict=True)]
    ids_UT, mask_UT = left_padded(own, pad, where)
    begun = read_prefixes(
        causal_lm.base_model, *left_padded(prefixes, pad, where), torch.tensor(of_U, device=where)
    )
    return _read(causal_lm, ids_UT, begun.followed_by(mask_UT))


def _read(causal_lm: PreTrainedModel, ids_UT: Tensor, context: dict[str, Any]) -> ReadPrompts:
    out = causal_lm(input_ids=ids_UT, **context, use_cache=True, logits_to_keep=1)
    return ReadPrompts(out.logits[:, -1], context["attention_mask"], out.past_key_values)


def grouped(prompts: list[list[int]]) -> list[PromptGroup]:
    """Neighbours that share enough. Each prompt keeps its last token at least, after which the first one is drawn."""
    groups: list[PromptGroup] = []
    start = 0
    for number, prompt in enumerate(prompts):
        if groups:
            shared = min(groups[-1].shared, shared_tokens(prompts[start], prompt), len(prompt) - 1)
            if worth_sharing(shared, prompt):
                groups[-1] = PromptGroup(shared, groups[-1].size + 1)
                continue
        start = number
        groups.append(PromptGroup(len(prompt) - 1, 1))
    return groups


def worth_sharing(shared: int, prompt: list[int]) -> bool:
    return shared >= WORTH_IT * len(prompt)
