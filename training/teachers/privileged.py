"""What a model that teaches itself is shown and its pupil is not. Torch-free.

The bytes made here are an interface: the starter model was taught to use exactly these sentences, and a stage that
words its hint differently gets a teacher that ignores it.
"""

from enum import StrEnum
from typing import NamedTuple

from evaluation.contract.render import NONE_TEXT, ChatMessage, Prompt, condition_text
from evaluation.contract.schema import CategorySchema


class HintKind(StrEnum):
    none = "none"
    answer = "answer"
    criterion = "criterion"
    demonstration = "demonstration"
    document = "document"


class Hint(NamedTuple):
    """condition: as `condition_text` shows it. text: a whole response to the same prompt, codes included, or a
    document."""

    kind: HintKind
    code: str
    condition: str
    text: str


def no_hint() -> Hint:
    return Hint(HintKind.none, "", "", "")


def answer_hint(code: str) -> Hint:
    return Hint(HintKind.answer, code, "", "")


def criterion_hint(
    schema: CategorySchema, codes: tuple[str, ...], category: str | None, decided: str | None = None
) -> Hint:
    """The right code and the condition behind it: the least that lets a teacher justify the answer.

    decided: the condition that is known to have decided the label. Without one, of a category with includes the code
    alone: a label does not say which condition held, and a teacher who is told the wrong one justifies it.
    """
    code = codes[schema.answers.index(category)]
    if category is None:
        return Hint(HintKind.criterion, code, NONE_TEXT, "")
    right = schema.category(category)
    if decided is not None and decided in right.includes:
        return Hint(HintKind.criterion, code, condition_text(decided), "")
    if right.includes:
        return answer_hint(code)
    return Hint(HintKind.criterion, code, condition_text(right.definition), "")


def demonstration_hint(demonstration: str) -> Hint:
    return Hint(HintKind.demonstration, "", "", demonstration)


def document_hint(document: str) -> Hint:
    return Hint(HintKind.document, "", "", document)


def with_hint(prompt: Prompt, hint: Hint) -> list[ChatMessage]:
    """The prompt's messages with the hint at the end of the user's; the prompt itself is left as it is."""
    return hinted(prompt.messages, hint)


def hinted(messages: list[ChatMessage], hint: Hint) -> list[ChatMessage]:
    """The same of messages that need not show a schema."""
    *before, user = messages
    return [*before, {"role": user["role"], "content": user["content"] + hint_text(hint)}]


def with_attempt(messages: list[ChatMessage], wrong: str) -> list[ChatMessage]:
    """The same with what somebody else answered, for a teacher that corrects."""
    *before, user = messages
    shown = f"\nSomebody answered:\n{wrong.strip()}\nThat is not right. Answer rightly, in the form that was asked for."
    return [*before, {"role": user["role"], "content": user["content"] + shown}]


def hint_text(hint: Hint) -> str:
    match hint.kind:
        case HintKind.none:
            return ""
        case HintKind.answer:
            return f"\nThe right answer is {_filled(hint.code, 'code')}."
        case HintKind.criterion:
            condition = _filled(hint.condition, "condition")
            return f'\nThe right answer is {_filled(hint.code, "code")}, because of "{condition}".'
        case HintKind.demonstration:
            return (
                "\nThis is an example for a response to the question:\n"
                f"{_filled(hint.text, 'demonstration')}\n"
                "Now answer with a response of your own, including the thinking process:"
            )
        case HintKind.document:
            return f"\nThis is known:\n{_filled(hint.text, 'document')}\nAnswer with it in mind."


def _filled(value: str, field: str) -> str:
    if not value:
        raise ValueError(f"this hint needs a {field}, and it is empty")
    return value
