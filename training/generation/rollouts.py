"""Sampling from the model in this process.

transformers' `generate` reads a prompt once for every completion and pays some milliseconds of bookkeeping a token;
for a small model and eight completions a prompt that is most of the time of a stage. Here a prompt is read once, its
keys and values are shared by its completions, and rows that have ended leave the batch. Plain temperature sampling
only, which is what on-policy training needs.

A batch is as many completions as fit into a room for keys and values. Its prompts are read in pieces of some seconds
each and its completions then written together, so that neither memory nor the time until the clock is looked at grows
with the schema, and prompts under many schemas are still written together.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicLayer

from training.engine.deadline import Deadline
from training.engine.model import in_bf16, merged, whole_of
from training.generation.prefix.prefill import ReadPrompts, read, worth_sharing
from training.generation.prefix.reading import shared_tokens

CACHE_BYTES: Final = 1 << 30  # of keys and values, on a CPU
_CACHE_SHARE: Final = 0.1  # of a GPU; not of what is free, because a stage that is resumed must draw the same
_READ_AT_ONCE: Final = 5e11  # tokens times parameters: about ten seconds of two old cores
_READ_ON_GPU: Final = 65_536  # tokens
_SAID_EVERY_S: Final = 10.0


class Sampling(NamedTuple):
    temperature: float
    max_new_tokens: int
    rows: int  # completions written at once, at most
    bf16: bool = False  # of an fp32 base; another is taken as it is


class Watched(NamedTuple):
    """deadline: what has not ended by then is left as it is. say: called every few seconds with how far it is."""

    deadline: Deadline = Deadline()
    say: Callable[[str], None] | None = None


UNWATCHED: Final = Watched()


class Rows(NamedTuple):
    """What is written at once: prompts, and how many completions of each."""

    prompts: list[int]
    copies: int


class _Room(NamedTuple):
    """cached: tokens, prompts with every completion's own. read: tokens of prompts, shared beginnings once."""

    cached: int
    read: int


class _CacheShape(NamedTuple):
    """Of a cache: completions, each of so many copies of its prompt, the longest prompt and what may follow it."""

    completions: int
    copies: int
    longest: int
    new_tokens: int


class _Counter:
    """Counts what is written, says so from time to time, and knows when to end."""

    def __init__(self, watched: Watched, completions: int):
        self._watched, self._completions = watched, completions
        self.deadline = watched.deadline
        self._ended = self._tokens = 0
        self._next_s = time.monotonic() + _SAID_EVERY_S

    def add(self, tokens: int, ended: int) -> None:
        self._tokens, self._ended = self._tokens + tokens, self._ended + ended
        if self._watched.say is not None and time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + _SAID_EVERY_S
            self._watched.say(
                f"written: {self._ended} of {self._completions} responses, {self._tokens} tokens"
            )


def sample(
    model: PreTrainedModel | PeftModel,
    prompts: list[list[int]],
    copies: int,
    sampling: Sampling,
    eos: list[int],
    pad: int,
    watched: Watched = UNWATCHED,
) -> list[list[int]]:
    """`copies` completions of every prompt, next to each other.

    One without an end-of-turn token was cut off, by the limit on tokens or by the deadline; past that, one that was
    not begun is empty.
    """
    counter = _Counter(watched, len(prompts) * copies)
    completions: list[list[list[int]]] = [[] for _ in prompts]
    was_training = model.training
    model.eval()
    try:
        # Not inference_mode: tensors made there may not enter autograd, and a model caches some (rotary tables).
        with torch.no_grad(), merged(model), _precision(model, sampling):
            room = _room(model)
            for rows in batches(prompts, copies, sampling, room.cached):
                if counter.deadline.passed:
                    break
                chosen = [prompts[i] for i in rows.prompts]
                longest = max(map(len, chosen))
                size = _CacheShape(len(chosen) * rows.copies, rows.copies, longest, sampling.max_new_tokens)
                found = _read(model, chosen, size, room.read, pad, counter.deadline)
                written = _write(model, found, rows.copies, sampling, eos, counter)
                written += [[] for _ in range(len(chosen) * rows.copies - len(written))]
                for n, i in enumerate(rows.prompts):
                    completions[i] += written[n * rows.copies : (n + 1) * rows.copies]
    finally:
        model.train(was_training)
    return [completion for own in completions for completion in own + [[] for _ in range(copies - len(own))]]


def sample_repeated(
    model: PreTrainedModel | PeftModel,
    prompts: list[list[int]],
    sampling: Sampling,
    eos: list[int],
    pad: int,
    watched: Watched = UNWATCHED,
) -> list[list[int]]:
    """One completion for every prompt, where equal prompts stand next to each other in groups of one size."""
    groups = [p for i, p in enumerate(prompts) if i == 0 or p != prompts[i - 1]]
    copies, rest = divmod(len(prompts), len(groups))
    if rest or any(p != groups[i // copies] for i, p in enumerate(prompts)):
        groups, copies = prompts, 1
    return sample(model, groups, copies, sampling, eos, pad, watched)


def batches(prompts: list[list[int]], copies: int, sampling: Sampling, cached: int) -> Iterator[Rows]:
    """Of a prompt that has more completions than there is room for, some at a time. cached: tokens."""
    waiting: list[int] = []
    longest = 0
    for i in sorted(range(len(prompts)), key=prompts.__getitem__):  # those that begin alike are read together
        tokens = len(prompts[i]) + sampling.max_new_tokens
        rows = (len(waiting) + 1) * copies
        if waiting and (rows > sampling.rows or rows * max(longest, tokens) > cached):
            yield from _parts(waiting, copies, longest, sampling, cached)
            waiting, longest = [], 0
        waiting.append(i)
        longest = max(longest, tokens)
    if waiting:
        yield from _parts(waiting, copies, longest, sampling, cached)


def _parts(chosen: list[int], copies: int, longest: int, sampling: Sampling, cached: int) -> Iterator[Rows]:
    fitting = min(sampling.rows, cached // longest) if len(chosen) == 1 else copies
    while copies > 0:
        now = min(copies, max(1, fitting))
        yield Rows(chosen, now)
        copies -= now


def pieces(prompts: list[list[int]], tokens: int) -> Iterator[list[list[int]]]:
    """Neighbours of so many tokens, of which those that several begin with count once."""
    piece: list[list[int]] = []
    size = 0
    for prompt in prompts:
        own = _unread(piece[-1], prompt) if piece else len(prompt)
        if piece and size + own > tokens:
            yield piece
            piece, size, own = [], 0, len(prompt)
        piece.append(prompt)
        size += own
    if piece:
        yield piece


def _unread(before: list[int], prompt: list[int]) -> int:
    """Tokens of a prompt that are read after those of the one before it."""
    shared = min(shared_tokens(before, prompt), len(prompt) - 1)
    return len(prompt) - shared if worth_sharing(shared, prompt) else len(prompt)


def _room(model: PreTrainedModel | PeftModel) -> _Room:
    plain = whole_of(model)
    weights = next(plain.parameters())
    size = token_bytes(plain)
    if weights.device.type == "cuda":
        memory = torch.cuda.get_device_properties(weights.device).total_memory
        return _Room(int(memory * _CACHE_SHARE) // size, _READ_ON_GPU)
    return _Room(CACHE_BYTES // size, int(_READ_AT_ONCE / plain.num_parameters()))


def token_bytes(model: PreTrainedModel) -> int:
    """Keys and values of one token."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * width * model.dtype.itemsize)


def _read(
    model: PreTrainedModel | PeftModel,
    prompts: list[list[int]],
    rows: _CacheShape,
    tokens: int,
    pad: int,
    deadline: Deadline,
) -> ReadPrompts:
    """With a cache that has a row for each completion. What the deadline leaves unread is missing at the end."""
    first, *others = pieces(prompts, tokens)
    found = read(whole_of(model), first, pad)
    logits, cache = [found.logits_UV], found.cache
    layers = [Roomy(layer, rows) for layer in cache.layers]
    _take(layers, found)
    for piece in others:
        if deadline.passed:
            break
        found = read(whole_of(model), piece, pad)
        _take(layers, found)
        logits.append(found.logits_UV)
    cache.layers = layers
    logits_UV = torch.cat(logits)
    length_U1 = torch.tensor([[len(prompt)] for prompt in prompts[: len(logits_UV)]], device=logits_UV.device)
    mask_UL = torch.arange(rows.longest, 0, -1, device=logits_UV.device) <= length_U1
    return ReadPrompts(logits_UV, mask_UL.to(found.mask_UL.dtype), cache)


def _take(layers: list["Roomy"], found: ReadPrompts) -> None:
    """At once, so that no small cache stays between the large buffers of the next reading."""
    for roomy, layer in zip(layers, found.cache.layers, strict=True):
        roomy.take(layer, found.mask_UL.bool())


def _write(
    model: PreTrainedModel | PeftModel,
    read_prompts: ReadPrompts,
    copies: int,
    sampling: Sampling,
    eos: list[int],
    counter: _Counter,
) -> list[list[int]]:
    causal_lm = whole_of(model)
    logits_UV, mask_UL, cache = read_prompts
    logits_RV = logits_UV.repeat_interleave(copies, dim=0)
    mask_RL = mask_UL.repeat_interleave(copies, dim=0)
    rows_R = torch.arange(len(mask_RL), device=mask_RL.device)
    written: list[list[int]] = [[] for _ in range(len(rows_R))]
    for _ in range(sampling.max_new_tokens):
        if counter.deadline.passed:
            break
        next_R = draw(logits_RV, sampling.temperature)
        going_R = torch.zeros_like(next_R, dtype=torch.bool)
        new = ended = 0
        for row, (index, token) in enumerate(zip(rows_R.tolist(), next_R.tolist(), strict=True)):
            if not written[index] or written[index][-1] not in eos:
                written[index].append(token)
                going_R[row] = token not in eos
                new, ended = new + 1, ended + (token in eos)
        counter.add(new, ended)
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

    def __init__(self, first: DynamicLayer, rows: _CacheShape):
        """first: of the kind that is taken."""
        super().__init__()
        self.lazy_initialization(first.values, first.values)
        _, heads, _, size = first.values.shape
        shape = rows.completions, heads, rows.longest + rows.new_tokens, size
        # Zeros: what is masked must still be a number.
        self._keys_RKLD, self._values_RKLD = (first.values.new_zeros(shape) for _ in range(2))
        self._copies, self._length, self._taken = rows.copies, rows.longest, 0

    def take(self, prompts: DynamicLayer, mask_UL: Tensor) -> None:
        """The next prompts, aligned on the right and without their padding."""
        for keys_KLD, values_KLD, mask_L in zip(prompts.keys, prompts.values, mask_UL, strict=True):
            rows = slice(self._taken, self._taken + self._copies)
            place = slice(self._length - int(mask_L.sum()), self._length)
            self._keys_RKLD[rows, :, place] = keys_KLD[:, mask_L].to(self._keys_RKLD.dtype)
            self._values_RKLD[rows, :, place] = values_KLD[:, mask_L]
            self._taken += self._copies
        self._show()

    def _show(self) -> None:
        self.keys = self._keys_RKLD[: self._taken, :, : self._length]
        self.values = self._values_RKLD[: self._taken, :, : self._length]

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        end = self._length + key_states.shape[-2]
        self._keys_RKLD[: self._taken, :, self._length : end] = key_states
        self._values_RKLD[: self._taken, :, self._length : end] = value_states
        self._length = end
        self._show()
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        self._keys_RKLD, self._values_RKLD = self._keys_RKLD[indices], self._values_RKLD[indices]
        self._taken = len(indices)
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
