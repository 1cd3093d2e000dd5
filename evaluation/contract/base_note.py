"""What a base that this project builds says of itself, in files of its folder."""

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
SCALARS: Final = ("factors_scale", "scale", "soft", "late", "none", "none_mean", "none_most")
TOKEN_WEIGHT: Final = "token_weight"
