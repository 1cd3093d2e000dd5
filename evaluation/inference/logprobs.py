"""The probabilities of the answer codes, read from the log-probs of a chat completion.

A code that the server did not report is unknown, not improbable.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from evaluation.contract.parse import choice_at, code_at


class CodeReading(NamedTuple):
    """The distribution over the codes at one position. label_mass: None where some code's log-prob is unknown."""

    probabilities: Mapping[str, float]
    label_mass: float | None


def read_answer(tokens: Sequence[Mapping[str, Any]], codes: tuple[str, ...]) -> CodeReading | None:
    """The distribution where the code was written that the parser reads; None where there is no such place."""
    text = _written(tokens)
    return _read_at(tokens, text, codes, code_at(text))


def read_choice(tokens: Sequence[Mapping[str, Any]], codes: tuple[str, ...]) -> CodeReading | None:
    """The distribution where the reasoning first chose a code; None where it does not say that one fits."""
    text = _written(tokens)
    return _read_at(tokens, text, codes, choice_at(text, codes))


def tokens_within(tokens: Sequence[Mapping[str, Any]], characters: int) -> int:
    """How many of them begin within so many characters of what they are together."""
    wanted = len(_bytes_of(_written(tokens)[: max(0, characters)]))
    begins = accumulate((len(_bytes(token)) for token in tokens), initial=0)
    return sum(begin < wanted for begin, _ in zip(begins, tokens, strict=False))


def _written(tokens: Sequence[Mapping[str, Any]]) -> str:
    return b"".join(map(_bytes, tokens)).decode("utf-8", errors="surrogateescape")


def _bytes_of(text: str) -> bytes:
    return text.encode("utf-8", errors="surrogateescape")


def _read_at(
    tokens: Sequence[Mapping[str, Any]], text: str, codes: tuple[str, ...], place: int | None
) -> CodeReading | None:
    """text: what they are together. place: of a character in it."""
    if place is None:
        return None
    wanted, end = len(_bytes_of(text[:place])), 0
    for token in tokens:
        end += len(_bytes(token))
        if end > wanted:
            return read_code(token, codes)
    return None


def read_code(token: Mapping[str, Any], codes: tuple[str, ...]) -> CodeReading | None:
    logprobs: dict[str, float] = {}
    bare = _text(token) in codes
    for entry in (token, *(token.get("top_logprobs") or ())):
        written, value = _text(entry), entry.get("logprob")
        code = written.strip()
        if code not in codes or value is None:
            continue
        # " A" is the code and "A" another token, which counts where the answer was written so (as in **A**), or where
        # a server strips the space from both.
        if written == code if bare else code not in logprobs or written != code:
            logprobs[code] = float(value)
    if not logprobs:
        return None
    probabilities = {code: math.exp(value) for code, value in logprobs.items()}
    mass = sum(probabilities.values())
    if mass <= 0:
        return None
    known = {code: p / mass for code, p in probabilities.items()}
    return CodeReading(known, min(mass, 1.0) if len(known) == len(codes) else None)


def _text(token: Mapping[str, Any]) -> str:
    return _bytes(token).decode("utf-8", errors="replace")


def _bytes(token: Mapping[str, Any]) -> bytes:
    return bytes(token["bytes"]) if token.get("bytes") is not None else str(token.get("token", "")).encode()
