"""The terminal, as every command of the product writes to it."""

from collections.abc import Iterable, Iterator
from typing import Final, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from evaluation.contract.text import harmless

_WIDE: Final = 180


class Terminal(Console):
    """Whatever is printed, strangers' text in it moves no cursor, turns no line round and becomes no picture. Only
    Rich's own styles act.

    In a file there is more room than the 80 columns that Rich takes where nobody looks: no cell is to be cut there.
    """

    def __init__(self, file: TextIO | None = None, *, stderr: bool = False, soft_wrap: bool = True):
        super().__init__(file=file, stderr=stderr, highlight=False, soft_wrap=soft_wrap, emoji=False)
        if not self.is_terminal:
            self.width = max(self.width, _WIDE)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        return _harmless(super().render(renderable, options))


def _harmless(segments: Iterable[Segment]) -> Iterator[Segment]:
    for segment in segments:
        yield segment if segment.control else segment._replace(text=harmless(segment.text))
