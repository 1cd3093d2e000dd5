"""One stage in several processes, as `accelerate launch` starts them: who speaks, and what all decide together."""

import os

import torch
from torch import distributed


def count() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """The one that writes events, results and adapters."""
    return os.environ.get("RANK", "0") == "0"


def any_of(mine: bool) -> bool:
    """Whether it holds in any process. Every process must ask, and at the same place."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return mine
    flag = torch.tensor(int(mine), device="cuda" if torch.cuda.is_available() else "cpu")
    distributed.all_reduce(flag, op=distributed.ReduceOp.MAX)
    return bool(flag.item())
