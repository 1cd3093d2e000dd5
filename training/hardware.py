"""What the machine at hand can do."""

import torch


def multiplies_in_bf16() -> bool:
    """A GPU, or a processor that has units for it; others only convert, and are ten times slower in it."""
    in_hardware = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.cuda.is_available() or bool(in_hardware)
