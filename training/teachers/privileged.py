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


class Hint(NamedTuple):
    """condition: as `condition_text` shows it; demonstration: a whole response to the same prompt, codes included."""

    kind: HintKind
    code: str
    condition: str
    demonstration: str


def no_hint() -> Hint:
    return Hint(HintKind.none, "", "", "")


def answer_hint(code: str) -> Hint:
    return Hint(HintKind.answer, code, "", "")


def criterion_hint(schema: CategorySchema, codes: tuple[str, ...], category: str | None) -> Hint:
    """The right code and the definition behind it: the least that lets a teacher justify the answer.

    Of a category with includes the code alone. A label does not say which condition held, and a teacher who is told
    the wrong one justifies it.
    """
    code = codes[schema.answers.index(category)]
    if category is None:
        return Hint(HintKind.criterion, code, NONE_TEXT, "")
    right = schema.category(category)
    if right.includes:
        return answer_hint(code)
    return Hint(HintKind.criterion, code, condition_text(right.definition), "")


def demonstration_hint(demonstration: str) -> Hint:
    return Hint(HintKind.demonstration, "", "", demonstration)


def with_hint(prompt: Prompt, hint: Hint) -> list[ChatMessage]:
    """The prompt's messages with the hint at the end of the user's; the prompt itself is left as it is."""
    *before, user = prompt.messages
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
                f"{_filled(hint.demonstration, 'demonstration')}\n"
                "Now answer with a response of your own, including the thinking process:"
            )


def _filled(value: str, field: str) -> str:
    if not value:
        raise ValueError(f"this hint needs a {field}, and it is empty")
    return value
