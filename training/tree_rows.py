"""Rows of several examples that begin alike, with what they share read once.

A row is the shared beginning (the trunk: the schema) and what each example goes on with (a branch: its conversation
and its answer). The model reads the trunks of a batch first; the branches then run as sequences that find the keys
and values of their trunk in the cache, gradient included, at the positions that they have in sequences of their own.
Losses and gradients are those of separate sequences; a test holds them together.

One flat sequence under a mask that parts its branches (prefix sharing, arXiv 2410.20305) gives the same. It costs
attention between branches that the mask throws away, and the vocabulary is projected at the trunk too.

Letters: R rows, B branches, P tokens of a trunk (left-padded), T tokens of a branch (right-padded), L = P + T.
"""

from itertools import takewhile
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from training.model import backbone_of, whole_of
from training.padding import left_padded, positions

IGNORED = -100


class Sequence(NamedTuple):
    prompt: list[int]
    completion: list[int]


class Row(NamedTuple):
    input_ids: list[int]
    labels: list[int]  # aligned with input_ids; IGNORED in prompts
    lengths: list[int]  # of the trunk, then of each branch


def row_of(sequences: list[Sequence]) -> Row:
    """A branch keeps at least the last token of its prompt, because the answer's first one is predicted there."""
    columns = zip(*(sequence.prompt[:-1] for sequence in sequences), strict=False)
    trunk = sum(1 for _ in takewhile(lambda tokens: len(set(tokens)) == 1, columns))
    row = Row(sequences[0].prompt[:trunk], [IGNORED] * trunk, [trunk])
    for prompt, completion in sequences:
        own = prompt[trunk:]
        row.input_ids.extend(own + completion)
        row.labels.extend([IGNORED] * len(own) + completion)
        row.lengths.append(len(own) + len(completion))
    return row


def can_share(model: PreTrainedModel | PeftModel) -> bool:
    """Not where more than keys and values goes from token to token, nor where experts are balanced over sequences."""
    base = whole_of(model)
    return not base._is_stateful and not hasattr(base.config.get_text_config(), "output_router_logits")


class Collator:
    """Rows to one batch: what a model takes for the branches, and the trunks beside it."""

    def __init__(self, pad: int):
        self._pad = pad

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        trunks = [row["input_ids"][: row["lengths"][0]] for row in rows]
        trunk_ids_RP, trunk_mask_RP = left_padded(trunks, self._pad, torch.device("cpu"))
        lengths_B = torch.tensor([length for row in rows for length in row["lengths"][1:]])
        counts_R = torch.tensor([len(row["lengths"]) - 1 for row in rows])
        trunk_of_B = torch.repeat_interleave(torch.arange(len(rows)), counts_R)
        branch_mask_BT = torch.arange(int(lengths_B.max())) < lengths_B[:, None]
        return {
            "trunk_ids": trunk_ids_RP,
            "trunk_mask": trunk_mask_RP,
            "trunk_of": trunk_of_B,
            "input_ids": _branches(rows, "input_ids", self._pad),
            "labels": _branches(rows, "labels", IGNORED),
            "attention_mask": torch.cat([trunk_mask_RP[trunk_of_B], branch_mask_BT.to(trunk_mask_RP)], 1),
        }


def _branches(rows: list[dict[str, Any]], column: str, padding: int) -> Tensor:
    parts = [part for row in rows for part in torch.tensor(row[column]).split(row["lengths"])[1:]]
    return pad_sequence(parts, batch_first=True, padding_value=padding)


def read_trunks(model: PreTrainedModel | PeftModel, batch: dict[str, Tensor]) -> dict[str, Any]:
    """What the model takes for the branches of a Collator's batch."""
    mask_RP, of_B = batch["trunk_mask"], batch["trunk_of"]
    trunks = backbone_of(model)(
        input_ids=batch["trunk_ids"], attention_mask=mask_RP, position_ids=positions(mask_RP), use_cache=True
    )
    trunks.past_key_values.batch_select_indices(of_B)
    return {
        "input_ids": batch["input_ids"],
        "labels": batch["labels"],
        "attention_mask": batch["attention_mask"],
        "position_ids": positions(batch["attention_mask"])[:, mask_RP.size(1) :],
        "past_key_values": trunks.past_key_values,
    }
