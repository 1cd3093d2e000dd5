"""How long an answer may be, and whether a prompt leaves room for it, in tokens of the model that answers.

Training writes no longer answers than serving and the gate read, and every length check reserves what they read. A
model version records the number that it was trained for.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from evaluation.contract.record import Conversation
from evaluation.contract.render import ChatMessage, render
from evaluation.contract.schema import CategorySchema

ANSWER_TOKENS: Final = 160
# Of a chat template around the messages, and of the mark and the code where an answer that was cut off is forced.
FORM_TOKENS: Final = 40

Count: TypeAlias = Callable[[list[str]], list[int]]


def room(context_tokens: int) -> int:
    """The most tokens that the text of a prompt may have."""
    return context_tokens - ANSWER_TOKENS - FORM_TOKENS


def misfit(trained_for: int | None) -> str | None:
    """What is wrong with a model that was trained for answers of so many tokens, if anything. None: nobody knows."""
    if trained_for is None or trained_for <= ANSWER_TOKENS:
        return None
    return f"it was trained for answers of {trained_for} tokens, and {ANSWER_TOKENS} are read; train it again"


def text_of(messages: Sequence[ChatMessage]) -> str:
    return "\n".join(message["content"] for message in messages)


def lengths(
    schema: CategorySchema, conversations: Sequence[Conversation], codes: tuple[str, ...], count: Count
) -> list[int]:
    """Of each conversation's prompt. count: the tokens of each text."""
    texts = [text_of(render(schema, conversation, codes).messages) for conversation in conversations]
    return count(texts) if texts else []
