"""Messages as chat APIs of language models have them, with `content` in place of `text`."""

from typing import Any, Final

from evaluation.contract.text import blank
from evaluation.formats.unread import Unread

_NOT_SAID: Final = ("system", "developer", "tool", "function")


def is_one(message: Any) -> bool:
    return isinstance(message, dict) and "content" in message and "text" not in message


def ours(message: dict[str, Any], unread: Unread) -> list[dict[str, Any]]:
    """One message; none where nothing is said to anybody: orders to a model, a tool that is called or answers."""
    if message.get("role") in _NOT_SAID:
        unread.other[
            "messages of `system`, `developer` and tools are no part of a conversation, and are not read"
        ] += 1
        return []
    content = message["content"]
    rest = {name: value for name, value in message.items() if name not in ("content", "tool_calls")}
    if not isinstance(content, str | list | None):
        return [rest | {"text": content}]  # as no text; the row is rejected for it
    texts = [content] if isinstance(content, str) else []
    for part in content if isinstance(content, list) else ():
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            texts.append(part["text"])
        else:
            unread.other["parts of a `content` that are no text are not read"] += 1
    text = "\n".join(text for text in texts if not blank(text))
    return [rest | {"text": text}] if text else []
