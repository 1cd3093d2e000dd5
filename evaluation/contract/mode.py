"""How an answer is come by. Each mode has a calibration and a gate of its own."""

from enum import StrEnum


class Mode(StrEnum):
    reasoned = "reasoned"  # the reasoning is written, then the code
    fast = "fast"  # the code is read at once: one token, and no reasoning
