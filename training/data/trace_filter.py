"""Whether a response may be learned from, and how well it is justified. Torch-free."""

from enum import StrEnum

from evaluation.contract.parse import decided_by, evidence, parse
from evaluation.contract.score import is_right
from training.data.examples import NO_CATEGORY, Example
from training.data.mentions import AnswerContext, contradicts
from training.data.rewards import is_in_form


class Quality(StrEnum):
    """How well a right answer is justified, best first."""

    full = "full"  # customer and condition quoted truly
    condition = "condition"
    evidence = "evidence"


def refusal(text: str, example: Example) -> str:
    """Why `quality_of` gives None, for whoever wrote the text."""
    answer = parse(text, example.schema, example.prompt.codes)
    if answer.failure is not None:
        return f"no answer can be read in it ({answer.failure.value})"
    if not is_right(answer, example.gold):
        return f"it answers {answer.category or NO_CATEGORY}, and the label is {example.gold or NO_CATEGORY}"
    if not is_in_form(text, answer, example.schema, example.prompt.codes):
        return "it is not reasoning with one answer behind it and nothing else"
    if contradicts(text, _context(example), example.gold):
        return "its reasoning speaks for another category than its answer, or quotes a condition as another's"
    return "it quotes neither the customer nor a condition of its category word for word"


def quality_of(text: str, example: Example) -> Quality | None:
    """None where the response is not to be learned from."""
    answer = parse(text, example.schema, example.prompt.codes)
    if not is_right(answer, example.gold) or not is_in_form(
        text, answer, example.schema, example.prompt.codes
    ):
        return None
    if contradicts(text, _context(example), example.gold):
        return None
    decided = decided_by(answer.reasoning, example.schema, example.gold) is not None
    quoted = bool(evidence(answer.reasoning, example.conversation))
    if decided and quoted:
        return Quality.full
    if decided:
        return Quality.condition
    return Quality.evidence if quoted else None


def _context(example: Example) -> AnswerContext:
    return AnswerContext(example.schema, example.prompt.codes, example.prompt.messages[-1]["content"])
