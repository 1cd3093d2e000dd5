"""Whether a response may be learned from, and how well it is justified. Torch-free."""

from enum import StrEnum

from evaluation.contract.parse import decided_by, evidence, parse
from training.data import Example
from training.rewards import is_in_form


class Quality(StrEnum):
    """How well a right answer is justified, best first."""

    full = "full"  # customer and condition quoted truly
    condition = "condition"
    evidence = "evidence"


def judge(text: str, example: Example) -> Quality | None:
    """None where the response is not to be learned from."""
    answer = parse(text, example.schema, example.prompt.codes)
    if answer.category != example.gold or not is_in_form(text, answer, example.schema, example.prompt.codes):
        return None
    decided = decided_by(answer.reasoning, example.schema, example.gold) is not None
    quoted = bool(evidence(answer.reasoning, example.conversation))
    if decided and quoted:
        return Quality.full
    if decided:
        return Quality.condition
    return Quality.evidence if quoted else None
