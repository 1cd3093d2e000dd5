"""Documents say as many parameters as the weights have: one that said 3.5 M was believed for a long time."""

import json
import math
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
WEIGHTS = ROOT / "training" / "starter" / "weights" / "model.safetensors"


def millions() -> float:
    """By the header of the file, which comes after its length."""
    with WEIGHTS.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return sum(math.prod(of["shape"]) for name, of in header.items() if name != "__metadata__") / 1e6


@pytest.mark.parametrize("document", ["docs/studies.md", "training/starter/MODEL_CARD.md"])
def test_the_starter_is_said_to_be_as_large_as_it_is(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    told = re.findall(r"(?:starter of|language model \()\s?(\d+(?:\.\d+)?) M parameters", text)
    assert told
    for one in told:
        digits = len(one.partition(".")[2])
        assert float(one) == round(millions(), digits)
