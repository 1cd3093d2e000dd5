"""`python -m training.starter.average FIRST SECOND --out DIR`: the mean of two sets of weights of one training.

Weights of late checkpoints average well where they lie in one basin (Izmailov et al., 2018, "Averaging Weights Leads to
Wider Optima and Better Generalization").
"""

import argparse
import shutil
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

WEIGHTS = "model.safetensors"


def average(first: Path, second: Path, out: Path) -> None:
    """Everything but the weights comes from `second`. Raises: ValueError where the two are not of one shape."""
    one, other = load_file(first / WEIGHTS), load_file(second / WEIGHTS)
    if {name: one[name].shape for name in one} != {name: other[name].shape for name in other}:
        raise ValueError(f"{first} and {second} are not weights of one architecture")
    mean = {name: _mean(one[name], other[name]) for name in one}
    with safe_open(second / WEIGHTS, "pt") as file:
        metadata = file.metadata()
    shutil.copytree(second, out, ignore=shutil.ignore_patterns(WEIGHTS, "checkpoint.pt"))
    save_file(mean, out / WEIGHTS, metadata)


def _mean(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return ((one.float() + other.float()) / 2).to(one.dtype)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("first", "second"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--out", type=Path, required=True, help="a folder that is not there yet")
    given = parser.parse_args()
    average(given.first, given.second, given.out)


if __name__ == "__main__":
    main()
