"""How the starter's weights are moved: Muon for matrices, AdamW for the rest, fp32 masters behind bf16 weights."""

import math
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen3ForCausalLM

MATRIX_LEARNING_RATE = 2.5  # times the others'; Muon's steps are small at equal rates


class Optimizers:
    """fp32 masters behind bf16 weights; Muon for matrices inside the blocks, AdamW for embeddings and norms."""

    def __init__(self, model: torch.nn.Module, learning_rate: float):
        self.weights: list[Tensor] = list(model.parameters())
        self.masters = [weight.detach().float().clone() for weight in self.weights]
        named = zip((name for name, _ in model.named_parameters()), self.masters, strict=True)
        matrices: list[Tensor] = []
        others: list[Tensor] = []
        for name, master in named:
            (matrices if master.ndim == 2 and "embed" not in name else others).append(master)
        self.learning_rate = learning_rate
        self.parts = [
            torch.optim.Muon(
                matrices,
                lr=MATRIX_LEARNING_RATE * learning_rate,
                weight_decay=0.05,
                adjust_lr_fn="match_rms_adamw",
            ),
            torch.optim.AdamW(others, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01),
        ]

    def step(self, scale: float) -> float:
        """Returns the gradient's norm before clipping at 1. Raises: FloatingPointError if it is not finite."""
        for weight, master in zip(self.weights, self.masters, strict=True):
            assert weight.grad is not None
            master.grad, weight.grad = weight.grad.float(), None
        norm = float(torch.nn.utils.clip_grad_norm_(self.masters, 1.0))
        if not math.isfinite(norm):
            raise FloatingPointError("the gradient is not finite; start again from the last checkpoint")
        for part, rate in zip(self.parts, (MATRIX_LEARNING_RATE, 1.0), strict=True):
            for group in part.param_groups:
                group["lr"] = rate * self.learning_rate * scale
            part.step()
        with torch.no_grad():
            torch._foreach_copy_(self.weights, self.masters)
        return norm

    def start_from(self, other: Qwen3ForCausalLM) -> None:
        with torch.no_grad():
            torch._foreach_copy_(self.masters, [weight.detach() for weight in other.parameters()])
            torch._foreach_copy_(self.weights, self.masters)

    def state(self) -> dict[str, Any]:
        return {"masters": self.masters, "parts": [part.state_dict() for part in self.parts]}

    def load(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            torch._foreach_copy_(self.masters, state["masters"])
            torch._foreach_copy_(self.weights, self.masters)
        for part, saved in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(saved)
