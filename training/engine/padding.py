"""Sequences of unequal lengths as one tensor. Axes: B sequences, L tokens."""

import torch
from torch import Tensor


def left_padded(sequences: list[list[int]], pad: int, where: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, aligned on the right."""
    length = max(map(len, sequences))
    ids = [[pad] * (length - len(s)) + s for s in sequences]
    mask = [[0] * (length - len(s)) + [1] * len(s) for s in sequences]
    return torch.tensor(ids, device=where), torch.tensor(mask, device=where)


def right_padded(sequences: list[list[int]], pad: int, where: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, aligned on the left."""
    length = max(map(len, sequences))
    ids = [s + [pad] * (length - len(s)) for s in sequences]
    mask = [[1] * len(s) + [0] * (length - len(s)) for s in sequences]
    return torch.tensor(ids, device=where), torch.tensor(mask, device=where)


def positions(mask_BL: Tensor) -> Tensor:
    """Of each token in its own sequence, wherever the padding is, (B, L)."""
    return (mask_BL.cumsum(1) - 1).clamp(min=0)
