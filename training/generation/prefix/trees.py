"""Sequences with a shared beginning laid out as one, where the model's own arithmetic takes such a mask."""

import torch
from torch import Tensor


def visible(owner_BT: Tensor, shared: int) -> Tensor:
    """Which keys a token may look at, bool, (B, T queries, T keys): earlier ones that are shared or its own.

    owner_BT: of each token, the sequence that it belongs to, or `shared`.
    """
    steps = torch.arange(owner_BT.size(-1), device=owner_BT.device)
    earlier_TT = steps[:, None] >= steps[None, :]
    keys, queries = owner_BT[..., None, :], owner_BT[..., :, None]
    return earlier_TT & ((keys == shared) | (keys == queries))
