"""What several sequences begin with, read once: the one step that writing, learning and scoring share.

The model reads the prefixes. Each sequence then finds the keys and values of its own in the cache, gradient included,
and goes on at the positions that it would have alone.

Axes: R prefixes, B sequences, P tokens of a prefix (left-padded), T tokens of a suffix, L = P + T, H hidden.
"""

from itertools import takewhile
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from training.engine.padding import positions


class PrefixRead(NamedTuple):
    """cache: a row for each sequence. last_BH: the state at the prefix's last token, before the next one."""

    mask_BP: Tensor
    cache: Cache
    last_BH: Tensor

    def followed_by(self, mask_BT: Tensor) -> dict[str, Any]:
        """What a model takes beside the ids of the suffixes; it adds their keys and values to the cache."""
        mask_BL = torch.cat([self.mask_BP, mask_BT.to(self.mask_BP)], dim=1)
        return {
            "attention_mask": mask_BL,
            "position_ids": positions(mask_BL)[:, self.mask_BP.size(1) :],
            "past_key_values": self.cache,
        }


def read_prefixes(
    backbone: PreTrainedModel, ids_RP: Tensor, mask_RP: Tensor, prefix_of_B: Tensor
) -> PrefixRead:
    out = backbone(input_ids=ids_RP, attention_mask=mask_RP, position_ids=positions(mask_RP), use_cache=True)
    out.past_key_values.batch_select_indices(prefix_of_B)
    return PrefixRead(mask_RP[prefix_of_B], out.past_key_values, out.last_hidden_state[prefix_of_B, -1])


def shared_tokens(*sequences: list[int]) -> int:
    """How many all of them begin with."""
    columns = zip(*sequences, strict=False)
    return sum(1 for _ in takewhile(lambda tokens: len(set(tokens)) == 1, columns))
