"""What a seed may be, wherever one is asked for."""

from typing import Final

MAX_SEED: Final = 2**32 - 1  # numpy's own bound
