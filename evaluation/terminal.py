"""What commands write for people and for programs: strangers' text in it does nothing, and any encoding holds it."""

import json
import os
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

from evaluation.contract.text import harmless


def steady() -> None:
    """Once, at the start of a command: what an output's encoding cannot write is written as an escape sequence, and
    does not end the command after its work is done.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(*lines: str, file: TextIO | None = None, end: str = "\n") -> None:
    """file: standard output, if it is not given. A reader that has enough, as `head` has, does not end the command: the
    exit code is still what was found.
    """
    stream = file or sys.stdout
    try:
        print(*map(harmless, lines), sep="\n", end=end, file=stream, flush=True)
    except BrokenPipeError:
        with Path(os.devnull).open("w") as nobody:
            os.dup2(nobody.fileno(), stream.fileno())


def complain(*lines: str) -> None:
    say(*lines, file=sys.stderr)


def json_text(content: Any, indent: int | None = None) -> str:
    """For programs: in ASCII where standard output holds no more. What acts on a terminal is escaped, as JSON may."""
    narrow = (sys.stdout.encoding or "ascii").lower().replace("-", "") not in ("utf8", "utf16", "utf32")
    text = json.dumps(content, ensure_ascii=narrow, indent=indent)
    if text.isascii():
        return text
    return "".join(c if c == "\n" or harmless(c) == c else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return json.dumps(character)[1:-1]
