"""The probabilities of the answer codes, read from the log-probs of a chat completion.

A code that the server did not report is unknown, not improbable.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

_CODE = re.compile(rb"(?:^|\n|think>)Answer:[ \t]*(\S)")


class CodeReading(NamedTuple):
    """The distribution over the codes at one position. label_mass: None where some code's log-prob is unknown."""

    probabilities: Mapping[str, float]
    label_mass: float | None


def read_answer(tokens: Sequence[Mapping[str, Any]], codes: tuple[str, ...]) -> CodeReading | None:
    """The distribution where the code of the last `Answer:` line was written; None where there is no such place."""
    pieces = [_bytes(token) for token in tokens]
    found = list(_CODE.finditer(b"".join(pieces)))
    if not found:
        return None
    wanted, end = found[-1].start(1), 0
    for token, piece in zip(tokens, pieces, strict=True):
        end += len(piece)
        if end > wanted:
            return read_code(token, codes)
    return None


def read_code(token: Mapping[str, Any], codes: tuple[str, ...]) -> CodeReading | None:
    logprobs: dict[str, float] = {}
    for entry in (token, *(token.get("top_logprobs") or ())):
        written = _bytes(entry).decode("utf-8", errors="replace")
        code, value = written.strip(), entry.get("logprob")
        # " A" is the code; "A" is another token, and counts only where a server strips the space from both.
        if code in codes and value is not None and (code not in logprobs or written != code):
            logprobs[code] = float(value)
    if not logprobs:
        return None
    probabilities = {code: math.exp(value) for code, value in logprobs.items()}
    mass = sum(probabilities.values())
    if mass <= 0:
        return None
    known = {code: p / mass for code, p in probabilities.items()}
    return CodeReading(known, min(mass, 1.0) if len(known) == len(codes) else None)


def _bytes(token: Mapping[str, Any]) -> bytes:
    return bytes(token["bytes"]) if token.get("bytes") is not None else str(token.get("token", "")).encode()
