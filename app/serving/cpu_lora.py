"""A vLLM plugin: LoRA on CPU as one matrix product per adapter. Runs inside vLLM's processes, and nowhere else.

vLLM 0.31's PyTorch kernels copy the adapter's matrices once for every token; for a small model that is most of the
cost of an answer. Here tokens are grouped by adapter. A token without one (index -1) is left alone, where indexing
with -1 would read the last slot. Axes: B tokens, I inputs, O outputs, S adapter slots.
"""

import torch
from torch import Tensor


def install() -> None:
    """Called by vLLM through the entry point in pyproject.toml."""
    from vllm.lora.ops.torch_ops import lora_ops
    from vllm.lora.punica_wrapper import punica_cpu

    for module in (lora_ops, punica_cpu):
        for kernel in (bgmv_shrink, bgmv_expand, bgmv_expand_slice):
            setattr(module, kernel.__name__, kernel)


def bgmv_shrink(x_BI: Tensor, a_SOI: Tensor, out_BO: Tensor, slots_B: Tensor, scaling: float = 1.0) -> None:
    _grouped(x_BI, a_SOI, out_BO, slots_B, scaling, add=False)


def bgmv_expand(
    x_BI: Tensor, b_SOI: Tensor, out_BO: Tensor, slots_B: Tensor, add_inputs: bool = True
) -> None:
    _grouped(x_BI, b_SOI, out_BO, slots_B, 1.0, add=add_inputs)


def bgmv_expand_slice(
    x_BI: Tensor,
    b_SOI: Tensor,
    out_BO: Tensor,
    slots_B: Tensor,
    offset: int,
    size: int,
    add_inputs: bool = True,
) -> None:
    _grouped(x_BI, b_SOI, out_BO[:, offset : offset + size], slots_B, 1.0, add=add_inputs)


def _grouped(
    x_BI: Tensor, weights: Tensor, out_BO: Tensor, slots_B: Tensor, scaling: float, *, add: bool
) -> None:
    weights_SOI = weights.squeeze(1) if weights.ndim == 4 else weights
    x_BI = x_BI[: len(slots_B)]
    slots = slots_B[: len(x_BI)]
    width = min(weights_SOI.shape[1], out_BO.shape[1])
    x_BI, out_BO = x_BI.to(out_BO.dtype), out_BO[: len(x_BI), :width]
    before = 1.0 if add else 0.0
    used = _used(slots)
    for slot in used:
        if slot < 0:
            continue
        matrix_IO = weights_SOI[slot, :width].to(out_BO.dtype).t()
        if len(used) == 1:
            out_BO.addmm_(x_BI, matrix_IO, beta=before, alpha=scaling)
        else:
            rows = (slots == slot).nonzero().squeeze(1)
            out_BO[rows] = torch.addmm(out_BO[rows], x_BI[rows], matrix_IO, beta=before, alpha=scaling)


def _used(slots_B: Tensor) -> list[int]:
    """Most batches have one adapter; sorting the tokens to see that would cost as much as the product."""
    if not len(slots_B):
        return []
    least, most = (int(slot) for slot in torch.aminmax(slots_B))
    return [least] if least == most else [int(slot) for slot in torch.unique(slots_B)]
