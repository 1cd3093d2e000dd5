"""The mean of two sets of weights."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from training.starter.average import WEIGHTS, average


def folder(path: Path, value: float, width: int = 2) -> Path:
    path.mkdir()
    save_file({"w": torch.full((3, width), value, dtype=torch.bfloat16)}, path / WEIGHTS, {"format": "pt"})
    (path / "config.json").write_text(f'{{"value": {value}}}')
    return path


def test_weights_are_averaged_and_the_rest_is_the_seconds(tmp_path: Path) -> None:
    average(folder(tmp_path / "one", 1.0), folder(tmp_path / "two", 2.0), tmp_path / "out")
    mean = load_file(tmp_path / "out" / WEIGHTS)["w"]
    assert torch.equal(mean, torch.full((3, 2), 1.5, dtype=torch.bfloat16))
    assert (tmp_path / "out" / "config.json").read_text() == '{"value": 2.0}'


def test_two_architectures_have_no_mean(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="architecture"):
        average(folder(tmp_path / "one", 1.0), folder(tmp_path / "two", 2.0, width=3), tmp_path / "out")
    assert not (tmp_path / "out").exists()
