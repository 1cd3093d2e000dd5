"""The verifiable reward: whether the answer is right, and, for little, whether it is well-formed and quotes truly.

Pure functions on text. The small parts stay small because a model that is paid for quoting learns to quote, and the
label is what it is for. The bonus of a pair is larger: who follows the definition under both schemas has read it.
"""

from collections import defaultdict
from typing import NamedTuple

from evaluation.contract.parse import Answer, decided_by, evidence, parse, settled
from evaluation.contract.record import Conversation
from evaluation.contract.render import ANSWER_MARK
from evaluation.contract.schema import CategorySchema
from evaluation.contract.score import is_right
from training.data.examples import Example

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
    quoted = bool(evidence(answer.reasoning, conversation))
    decided = decided_by(answer.reasoning, schema, answer.category) is not None
    return Reward(
        LABEL if is_right(answer, gold) else 0.0,
        FORMAT if is_in_form(text, answer, schema, codes) else 0.0,
        EVIDENCE * (quoted + decided) / 2,
    )


def answers_rightly(text: str, example: Example) -> bool:
    return is_right(parse(text, example.schema, example.prompt.codes), example.gold)


def is_in_form(text: str, answer: Answer, schema: CategorySchema, codes: tuple[str, ...]) -> bool:
    """Reasoning, one answer behind it, and nothing else: reading is lenient about the form, what is taught is not.

    answer: what `parse` has read in the text.
    """
    if answer.failure is not None or not answer.reasoning or settled(text) != answer.reasoning:
        return False
    code = codes[schema.answers.index(answer.category)]
    return text.split() == f"{answer.reasoning}{ANSWER_MARK} {code}".split()


def paired_bonus(examples: list[int], right: list[bool]) -> list[float]:
    """For each completion that is right, the share of right ones under the other schema of its pair, times PAIR.

    examples: the number of each completion's example; 2n and 2n + 1 are one conversation under two schemas.
    """
    of_example: dict[int, list[bool]] = defaultdict(list)
    for number, one in zip(examples, right, strict=True):
        of_example[number].append(one)
    share = {number: sum(all_of) / len(all_of) for number, all_of in of_example.items()}
    return [PAIR * share[n ^ 1] if one else 0.0 for n, one in zip(examples, right, strict=True)]
