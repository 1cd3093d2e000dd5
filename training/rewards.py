"""The verifiable reward: whether the answer is right, and, for little, whether it is well-formed and quotes truly.

Pure functions on text. The small parts stay small because a model that is paid for quoting learns to quote, and the
label is what it is for. The bonus of a pair is larger: who follows the definition under both schemas has read it.
"""

from collections import defaultdict
from typing import NamedTuple

from evaluation.contract.parse import decided_by, evidence, parse
from evaluation.contract.record import Conversation
from evaluation.contract.schema import CategorySchema

LABEL, FORMAT, EVIDENCE, PAIR = 1.0, 0.1, 0.1, 0.3


class Reward(NamedTuple):
    label: float
    format: float
    evidence: float

    @property
    def total(self) -> float:
        return self.label + self.format + self.evidence


def reward(
    text: str,
    schema: CategorySchema,
    codes: tuple[str, ...],
    conversation: Conversation,
    gold: str | None,
    *,
    truncated: bool = False,
) -> Reward:
    """codes: aligned with schema.answers; gold: the right answer under `schema`, None for none of these.

    The evidence is one half for quoting the customer truly and one half for quoting a condition of the category
    that was answered; both are 0 where there is no answer.
    """
    answer = parse(text, schema, codes, truncated=truncated)
    if answer.failure is not None:
        return Reward(0.0, 0.0, 0.0)
    well_formed = (
        text.count("Answer:") == 1 and bool(answer.reasoning) and text.rstrip().endswith(tuple(codes))
    )
    quoted = bool(evidence(answer.reasoning, conversation))
    decided = decided_by(answer.reasoning, schema, answer.category) is not None
    return Reward(
        LABEL if answer.category == gold else 0.0,
        FORMAT if well_formed else 0.0,
        EVIDENCE * (quoted + decided) / 2,
    )


def paired_bonus(examples: list[int], right: list[bool]) -> list[float]:
    """For each completion that is right, the share of right ones under the other schema of its pair, times PAIR.

    examples: the number of each completion's example; 2n and 2n + 1 are one conversation under two schemas.
    """
    of_example: dict[int, list[bool]] = defaultdict(list)
    for number, one in zip(examples, right, strict=True):
        of_example[number].append(one)
    share = {number: sum(all_of) / len(all_of) for number, all_of in of_example.items()}
    return [PAIR * share[n ^ 1] if one else 0.0 for n, one in zip(examples, right, strict=True)]
