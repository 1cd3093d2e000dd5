"""What a base that this project builds says of itself, in a file of its folder."""

from typing import Final

NOTE: Final = "steerwise.json"
IDENTITY: Final = "identity"  # the hash of what it is built from
LIKENESS: Final = (
    "likeness"  # how much a sentence encoder counts where it answers at once (`inference.likeness`)
)
