"""How an answer is come by. Each mode has a calibration and a gate of its own."""

from enum import StrEnum


class Mode(StrEnum):
    reasoned = "reasoned"  # the reasoning is written, then the code
    fast = "fast"  # the code is read at once: one token, and no reasoning


class ModeChoice(StrEnum):
    """What may be asked for: a mode, or both of them, the second where the first is unsure."""

    reasoned = "reasoned"
    fast = "fast"
    auto = "auto"

    @property
    def modes(self) -> tuple[Mode, ...]:
        """In which models have to be measured before they may be asked so; the first is asked first."""
        return (Mode.fast, Mode.reasoned) if self is ModeChoice.auto else (Mode(self.value),)


class ReasoningOrder(StrEnum):
    """Whether an answer's reasoning was written before its code, or afterwards to explain it."""

    before = "before"
    after = "after"
