"""What the machine at hand can do."""

import ctypes
import gc
import sys

import torch


def multiplies_in_bf16() -> bool:
    """Where models are trained here: a GPU, or the processor."""
    return torch.cuda.is_available() or processor_multiplies_in_bf16()


def processor_multiplies_in_bf16() -> bool:
    """It has units for it; others only convert, and are ten times slower in it."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def give_back_memory() -> None:
    """What was freed, to the system: glibc keeps freed memory for what comes next, gigabytes after a large part of a
    stage that a smaller one follows. Elsewhere than on glibc nothing is done.
    """
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
