"""What a chat completion said, whether it came in one piece or in chunks."""

import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, NamedTuple

DATA, END = "data:", "[DONE]"


class PredictorError(Exception):
    """The server gave no usable response. Ours, not the model's: such an example is `errored`."""

    def __init__(self, message: str, status: int | None = None):
        super().__init__(message)
        self.status = status


class Completion(NamedTuple):
    text: str
    truncated: bool
    tokens: Sequence[Mapping[str, Any]]  # OpenAI's logprobs.content; empty where the server has none
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None


class Growing:
    """A completion that is still coming; `text` is what came so far."""

    def __init__(self) -> None:
        self.text = ""
        self._tokens: list[Mapping[str, Any]] = []
        self._finish_reason: str | None = None
        self._usage: Any = None

    def add(self, chunk: Any) -> None:
        """chunk: one parsed `chat.completion.chunk`. Raises: PredictorError."""
        try:
            for choice in chunk["choices"]:  # none in the last one, which only counts
                self.text += choice["delta"].get("content") or ""
                self._tokens += (choice.get("logprobs") or {}).get("content") or ()
                self._finish_reason = choice.get("finish_reason") or self._finish_reason
            self._usage = chunk.get("usage") or self._usage
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise PredictorError(f"not a chunk of a chat completion: {error!r}") from error

    def whole(self) -> Completion:
        """Raises: PredictorError where the end is missing."""
        if self._finish_reason is None:
            raise PredictorError("the stream ended before the answer did")
        return _completion(self.text, self._finish_reason, self._tokens, self._usage)


def read(raw: Any) -> Completion:
    """raw: a parsed `chat.completion`. Raises: PredictorError."""
    try:
        choice = raw["choices"][0]
        tokens = (choice.get("logprobs") or {}).get("content") or ()
        text = choice["message"].get("content") or ""
        return _completion(text, choice.get("finish_reason"), tokens, raw.get("usage"))
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise PredictorError(f"not a chat completion: {error!r}") from error


async def chunks(lines: AsyncIterator[str]) -> AsyncIterator[Any]:
    """The parsed chunks of an event stream, up to its end mark. Raises: PredictorError."""
    async for line in lines:
        if not line.startswith(DATA):
            continue
        content = line.removeprefix(DATA).strip()
        if content == END:
            return
        try:
            yield json.loads(content)
        except ValueError as error:
            raise PredictorError("a chunk is not JSON") from error


def _completion(
    text: str,
    finish_reason: str | None,
    tokens: Sequence[Mapping[str, Any]],
    usage: Any,
) -> Completion:
    return Completion(
        text,
        finish_reason == "length",
        tokens,
        counted(usage, "prompt_tokens"),
        counted(usage, "completion_tokens"),
        counted(usage, "prompt_tokens_details", "cached_tokens"),
    )


def counted(usage: Any, *path: str) -> int | None:
    """Tokens, by what a server says of its usage. None where that is no count: it says nothing about the answer."""
    for name in path:
        usage = usage.get(name) if isinstance(usage, Mapping) else None
    return usage if type(usage) is int and 0 <= usage <= sys.maxsize else None
