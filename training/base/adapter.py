"""The adapter as peft and vLLM read it, in files small enough to be kept with the project."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors
from torch import Tensor

from evaluation.atomic_files import write_whole
from training.base.network import Network

MAX_BYTES: Final = 16 * 2**20  # of one file
CONFIG: Final = "adapter_config.json"


def save(network: Network, folder: Path, rank: int, alpha: int) -> None:
    """bf16, in as many files as MAX_BYTES asks for; each is replaced whole."""
    folder.mkdir(parents=True, exist_ok=True)
    parts: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, parameter in network.changes.named_parameters():
        tensor = parameter.detach().to("cpu", torch.bfloat16).contiguous()
        size_bytes = tensor.numel() * tensor.element_size()
        if size + size_bytes > MAX_BYTES * 0.95:
            parts.append({})
            size = 0
        parts[-1][_peft_name(name)] = tensor
        size += size_bytes
    for number, part in enumerate(parts, start=1):
        write_tensors(folder / f"part-{number}.safetensors", part)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": alpha,
        "parts": len(parts),
    }
    write_whole(folder / CONFIG, (json.dumps(config, indent=2) + "\n").encode())


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Whole, or not at all."""
    write_whole(path, save_tensors({name: tensor.contiguous() for name, tensor in tensors.items()}))


def load(folder: Path) -> dict[str, Tensor]:
    """Every factor by peft's name. Raises: FileNotFoundError where a part is missing."""
    config = json.loads((folder / CONFIG).read_text())
    found: dict[str, Tensor] = {}
    for number in range(1, config["parts"] + 1):
        found |= load_file(folder / f"part-{number}.safetensors")
    return found


def load_into(network: Network, folder: Path) -> None:
    saved = load(folder)
    for name, parameter in network.changes.named_parameters():
        parameter.data.copy_(saved[_peft_name(name)])


def _peft_name(name: str) -> str:
    """`model/layers/0/mlp/up_proj.A` to `base_model.model.model.layers.0.mlp.up_proj.lora_A.weight`."""
    module, factor = name.rsplit(".", 1)
    return f"base_model.model.{module.replace('/', '.')}.lora_{factor}.weight"
