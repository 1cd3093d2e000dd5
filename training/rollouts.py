"""Sampling from the model in this process.

transformers' `generate` reads a prompt once for every completion and pays some milliseconds of bookkeeping a token;
for a small model and eight completions a prompt that is most of the time of a stage. Here a prompt is read once, its
keys and values are shared by its completions, and rows that have ended leave the batch. Plain temperature sampling
only, which is what on-policy training needs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicLayer

from training.model import in_bf16, merged, whole_of
from training.prefill import read


class Sampling(NamedTuple):
    temperature: float
    max_new_tokens: int
    rows: int  # completions written at once
    bf16: bool = False  # of an fp32 base; another is taken as it is


def sample(
    model: PreTrainedModel | PeftModel,
    prompts: list[list[int]],
    copies: int,
    sampling: Sampling,
    eos: list[int],
    pad: int,
) -> list[list[int]]:
    """`copies` completions of every prompt, next to each other. One without an end-of-turn token was cut off."""
    per_batch = max(1, sampling.rows // copies)
    sorted_prompts = sorted(
        range(len(prompts)), key=prompts.__getitem__
    )  # those that begin alike are read together
    completions: dict[int, list[list[int]]] = {}
    was_training = model.training
    model.eval()
    # Not inference_mode: tensors made there may not enter autograd, and a model caches some (rotary tables).
    with torch.no_grad(), merged(model), _precision(model, sampling):
        for start in range(0, len(sorted_prompts), per_batch):
            chosen = sorted_prompts[start : start + per_batch]
            written = _sample_batch(model, [prompts[i] for i in chosen], copies, sampling, eos, pad)
            completions |= {i: written[n * copies : (n + 1) * copies] for n, i in enumerate(chosen)}
    model.train(was_training)
    return [completion for i in range(len(prompts)) for completion in completions[i]]


def sample_repeated(
    model: PreTrainedModel | PeftModel, prompts: list[list[int]], sampling: Sampling, eos: list[int], pad: int
) -> list[list[int]]:
    """One completion for every prompt, where equal prompts stand next to each other in groups of one size."""
    groups = [p for i, p in enumerate(prompts) if i == 0 or p != prompts[i - 1]]
    copies, rest = divmod(len(prompts), len(groups))
    if rest or any(p != groups[i // copies] for i, p in enumerate(prompts)):
        groups, copies = prompts, 1
    return sample(model, groups, copies, sampling, eos, pad)


def _sample_batch(
    model: PreTrainedModel | PeftModel,
    prompts: list[list[int]],
    copies: int,
    sampling: Sampling,
    eos: list[int],
    pad: int,
) -> list[list[int]]:
    causal_lm = whole_of(model)
    logits_UV, mask_UL, cache = read(causal_lm, prompts, pad)
    cache.layers = [Roomy(layer, copies, sampling.max_new_tokens) for layer in cache.layers]
    logits_RV = logits_UV.repeat_interleave(copies, dim=0)
    mask_RL = mask_UL.repeat_interleave(copies, dim=0)
    rows_R = torch.arange(len(prompts) * copies, device=mask_RL.device)
    written: list[list[int]] = [[] for _ in range(len(rows_R))]
    for _ in range(sampling.max_new_tokens):
        next_R = draw(logits_RV, sampling.temperature)
        going_R = torch.zeros_like(next_R, dtype=torch.bool)
        for row, (index, token) in enumerate(zip(rows_R.tolist(), next_R.tolist(), strict=True)):
            if not written[index] or written[index][-1] not in eos:
                written[index].append(token)
                going_R[row] = token not in eos
        if not going_R.any():
            break
        # Copying the cache costs as much as a few tokens, so ended rows leave by the half.
        if going_R.sum() <= 0.5 * len(rows_R):
            kept = going_R.nonzero().squeeze(1)
            cache.batch_select_indices(kept)
            rows_R, next_R, mask_RL = rows_R[kept], next_R[kept], mask_RL[kept]
        mask_RL = torch.cat([mask_RL, mask_RL.new_ones(len(rows_R), 1)], dim=1)
        out = causal_lm(
            input_ids=next_R[:, None],
            attention_mask=mask_RL,
            position_ids=mask_RL.sum(1, keepdim=True) - 1,
            past_key_values=cache,
            use_cache=True,
        )
        logits_RV = out.logits[:, -1]
    return written


def draw(logits_RV: Tensor, temperature: float) -> Tensor:
    """By inverting the distribution function: `multinomial` draws a random number for every token of the vocabulary."""
    sums_RV = torch.softmax(logits_RV.float() / temperature, -1).double().cumsum(-1)
    level_R1 = torch.rand_like(sums_RV[:, :1]) * sums_RV[:, -1:]
    # right: a token of no probability adds nothing to the sum, and is never drawn.
    return torch.searchsorted(sums_RV, level_R1, right=True).squeeze(1).clamp(max=sums_RV.size(1) - 1)


class Roomy(DynamicLayer):
    """Keys and values with room for the tokens to come; transformers' own copies all of them for every token.

    Axes: U prompts, R rows, K heads, L tokens, D head size. Both are kept in the values' type: under autocast the keys
    come in fp32, and attention would cast the lot of them at every token.
    """

    def __init__(self, prompt: DynamicLayer, copies: int, room: int):
        super().__init__()
        self.lazy_initialization(prompt.values, prompt.values)
        self._length = prompt.get_seq_length()
        self._keys_RKLD = self._spread(prompt.keys.to(prompt.values.dtype), copies, room)
        self._values_RKLD = self._spread(prompt.values, copies, room)
        self._show()

    def _spread(self, prompts_UKLD: Tensor, copies: int, room: int) -> Tensor:
        prompts, heads, length, size = prompts_UKLD.shape
        spread_RKLD = prompts_UKLD.new_empty(prompts * copies, heads, length + room, size)
        spread_RKLD[:, :, :length] = prompts_UKLD.repeat_interleave(copies, dim=0)
        return spread_RKLD

    def _show(self) -> None:
        self.keys = self._keys_RKLD[:, :, : self._length]
        self.values = self._values_RKLD[:, :, : self._length]

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        end = self._length + key_states.shape[-2]
        self._keys_RKLD[:, :, self._length : end] = key_states
        self._values_RKLD[:, :, self._length : end] = value_states
        self._length = end
        self._show()
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        self._keys_RKLD, self._values_RKLD = self._keys_RKLD[indices], self._values_RKLD[indices]
        self._show()


@contextmanager
def _precision(model: PreTrainedModel | PeftModel, sampling: Sampling) -> Iterator[None]:
    """An fp32 base is cast once for all tokens; autocast would do so at every one, which costs what it saves."""
    if model.dtype is torch.bfloat16:
        with torch.autocast(model.device.type, dtype=torch.bfloat16):
            yield
    elif sampling.bf16:
        with in_bf16(model):
            yield
    else:
        yield
