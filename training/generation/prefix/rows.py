"""Rows of several examples that begin alike, with what they share read once.

A row is the shared beginning (the prefix: the schema) and what each example goes on with (a suffix: its conversation
and its answer). The prefixes of a batch are read first, and the suffixes after them (see `reading`).
Losses and gradients are those of separate sequences; a test holds them together. A sequence that begins otherwise (a
trace that keeps the codes that it was written under) has a prefix of its own, or all of its row would be read whole.

One flat sequence under a mask that parts its suffixes (prefix sharing, arXiv 2410.20305) gives the same. It costs
attention between suffixes that the mask throws away, and the vocabulary is projected at the prefix too.

Letters: R rows, B suffixes, P tokens of a prefix (left-padded), T tokens of a suffix (right-padded), L = P + T.
"""

from itertools import accumulate, pairwise, takewhile
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from training.engine.model import backbone_of, whole_of
from training.engine.padding import left_padded
from training.generation.prefix.prefill import grouped
from training.generation.prefix.reading import read_prefixes, shared_tokens

IGNORED = -100


class PromptAndCompletion(NamedTuple):
    prompt: list[int]
    completion: list[int]


class PackedRow(NamedTuple):
    input_ids: list[int]
    labels: list[int]  # aligned with input_ids; IGNORED in prompts
    lengths: list[int]  # of the prefix, then of each suffix


def row_of(sequences: list[PromptAndCompletion]) -> PackedRow:
    """A suffix keeps at least the last token of its prompt, because the answer's first one is predicted there."""
    prefix = shared_tokens(*(sequence.prompt[:-1] for sequence in sequences))
    row = PackedRow(sequences[0].prompt[:prefix], [IGNORED] * prefix, [prefix])
    for prompt, completion in sequences:
        own = prompt[prefix:]
        row.input_ids.extend(own + completion)
        row.labels.extend([IGNORED] * len(own) + completion)
        row.lengths.append(len(own) + len(completion))
    return row


def can_share(model: PreTrainedModel | PeftModel) -> bool:
    """Not where more than keys and values goes from token to token, nor where experts are balanced over sequences."""
    base = whole_of(model)
    return not base._is_stateful and not hasattr(base.config.get_text_config(), "output_router_logits")


class Collator:
    """Rows to one batch: what a model takes for the suffixes, and the prefixes beside it."""

    def __init__(self, pad: int):
        self._pad = pad

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        begun = [_begun(row["input_ids"], row["labels"], row["lengths"]) for row in rows]
        prefixes = [prefix for row in begun for prefix in row.prefixes]
        prefix_ids_RP, prefix_mask_RP = left_padded(prefixes, self._pad, torch.device("cpu"))
        first_of = accumulate((len(row.prefixes) for row in begun), initial=0)
        of_B = [first + own for row, first in zip(begun, first_of, strict=False) for own in row.prefix_of]
        ids = [torch.tensor(suffix) for row in begun for suffix in row.suffixes]
        lengths_B = torch.tensor([len(suffix) for suffix in ids])
        labels = [torch.tensor(suffix) for row in begun for suffix in row.labels]
        suffix_mask_BT = torch.arange(int(lengths_B.max())) < lengths_B[:, None]
        return {
            "prefix_ids": prefix_ids_RP,
            "prefix_mask": prefix_mask_RP,
            "prefix_of": torch.tensor(of_B),
            "input_ids": pad_sequence(ids, batch_first=True, padding_value=self._pad),
            "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORED),
            "suffix_mask": suffix_mask_BT.to(prefix_mask_RP),
        }


class _BegunRow(NamedTuple):
    """prefix_of: of each suffix, which of the prefixes is its own."""

    prefixes: list[list[int]]
    prefix_of: list[int]
    suffixes: list[list[int]]
    labels: list[list[int]]


def _begun(ids: list[int], labels: list[int], lengths: list[int]) -> _BegunRow:
    """A row's sequences, those together whose prompts have most of their tokens in common."""
    ends = list(accumulate(lengths))
    own = [slice(start, end) for start, end in pairwise(ends)]
    prefix = ids[: lengths[0]]
    prompts = [prefix + _given(ids[one], labels[one]) for one in own]
    common = _Groups([prefix], [0] * len(prompts))
    prefixes, prefix_of = min(common, _alike(prompts), key=lambda groups: _tokens_read(groups, prompts))
    begins = [len(prefixes[number]) - lengths[0] for number in prefix_of]
    return _BegunRow(
        prefixes,
        prefix_of,
        [ids[one][begin:] for one, begin in zip(own, begins, strict=True)],
        [labels[one][begin:] for one, begin in zip(own, begins, strict=True)],
    )


class _Groups(NamedTuple):
    """prefix_of: of each prompt."""

    prefixes: list[list[int]]
    prefix_of: list[int]


def _alike(prompts: list[list[int]]) -> _Groups:
    """Those together that have enough of their tokens in common, as before sampling."""
    order = sorted(range(len(prompts)), key=prompts.__getitem__)
    groups = grouped([prompts[number] for number in order])
    of_sorted = [number for number, group in enumerate(groups) for _ in range(group.size)]
    prefix_of = [number for _, number in sorted(zip(order, of_sorted, strict=True))]
    prefixes = [prompts[prefix_of.index(number)][: group.shared] for number, group in enumerate(groups)]
    return _Groups(prefixes, prefix_of)


def _tokens_read(groups: _Groups, prompts: list[list[int]]) -> int:
    saved = sum(len(groups.prefixes[number]) for number in groups.prefix_of)
    return sum(map(len, groups.prefixes)) + sum(map(len, prompts)) - saved


def _given(ids: list[int], labels: list[int]) -> list[int]:
    """Of a suffix what belongs to its prompt."""
    return [token for token, _ in takewhile(lambda at: at[1] == IGNORED, zip(ids, labels, strict=True))]


def suffixes_of(model: PreTrainedModel | PeftModel, batch: dict[str, Tensor]) -> dict[str, Any]:
    """What the model takes for the suffixes of a Collator's batch, once it has read the prefixes."""
    begun = read_prefixes(backbone_of(model), batch["prefix_ids"], batch["prefix_mask"], batch["prefix_of"])
    own = {"input_ids": batch["input_ids"], "labels": batch["labels"]}
    return own | begun.followed_by(batch["suffix_mask"])


def together(batches: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same sequences in as many batches of the same sizes, those of one row (tensor `row`) next to each other.

    trl shuffles what was written for a step before it cuts it into micro-batches. Left so, each of them reads the
    beginning of nearly every row.
    """
    rows = torch.cat([batch["row"] for batch in batches])
    sizes, order_B = [len(batch["row"]) for batch in batches], torch.argsort(rows, stable=True)

    def sorted_parts(name: str) -> list[Any]:
        values = [batch[name] for batch in batches]
        if not torch.is_tensor(values[0]) or not values[0].dim():  # one for all of them
            return values
        return list(torch.cat(values)[order_B].split(sizes))

    columns = {name: sorted_parts(name) for name in batches[0]}
    return [{name: parts[number] for name, parts in columns.items()} for number in range(len(batches))]
