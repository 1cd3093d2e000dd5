"""What a base that this project builds says of itself, in files of its folder."""

import hashlib
from typing import Final

NOTE: Final = "steerwise.json"
IDENTITY: Final = "identity"  # the hash of what it is built from
# The power of a sentence encoder's share where a code is chosen (`inference.likeness`).
LIKENESS: Final = "likeness"
# What was trained of that encoder; in a folder of its own, since vLLM takes every such file beside the model's for its.
LIKENESS_FILE: Final = "likeness/encoder.safetensors"
# The same in the folder of an adapter that was trained together with a copy of it.
ADAPTER_LIKENESS: Final = "likeness.safetensors"
# Tensors of that file: low-rank changes of matrices by their names (scale · B A), what decides, a token's weight.
FACTOR_A, FACTOR_B = ".A", ".B"
SCALARS: Final = (
    "factors_scale",
    "scale",
    "soft",
    "late",
    "aside",
    "aside_from",
    "example_from",
    "none",
    "none_mean",
    "none_most",
)
TOKEN_WEIGHT: Final = "token_weight"
# And of a tenant's copy: what labelled conversations say, as rows of length 1; which condition decided each, and of
# which category; every condition that there was (`text_key`).
EXAMPLES: Final = "examples"
EXAMPLE_CONDITIONS: Final = "example_conditions"
EXAMPLE_CATEGORIES: Final = "example_categories"
KNOWN_CONDITIONS: Final = "known_conditions"
NOT_THERE: Final = -9.0  # how alike what does not exist is: less than any text


def text_key(text: str | None) -> int:
    """By which an example finds what decided it, without its words; None: none of these. However it is spaced."""
    words = "" if text is None else " ".join(text.split())
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:8], "big", signed=True)
