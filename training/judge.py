"""Whether a response may be learned from, and how well it is justified. Torch-free."""

from enum import StrEnum

from evaluation.contract.parse import decided_by, evidence, parse
from training.data import Example
from training.mentions import Shown, contradicts


class Quality(StrEnum):
    """How well a right answer is justified, best first."""

    full = "full"  # customer and condition quoted truly
    condition = "condition"
    evidence = "evidence"


def judge(text: str, example: Example) -> Quality | None:
    """None where the response is not to be learned from."""
    shown = Shown(example.schema, example.prompt.codes, example.prompt.messages[-1]["content"])
    if contradicts(text, shown, example.gold) or not text.rstrip().endswith(example.gold_code):
        return None
    answer = parse(text, example.schema, example.prompt.codes)
    decided = decided_by(answer.reasoning, example.schema, example.gold) is not None
    quoted = bool(evidence(answer.reasoning, example.conversation))
    if decided and quoted:
        return Quality.full
    if decided:
        return Quality.condition
    return Quality.evidence if quoted else None
