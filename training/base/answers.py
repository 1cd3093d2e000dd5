"""What the base is taught to write: the customer's deciding words, the condition that they meet, the code."""

from typing import Final

from evaluation.contract.render import ANSWER_MARK, condition_text
from evaluation.contract.schema import CategorySchema
from training.starter.problems import ProblemExample

CHOICE: Final = " This fits"  # the code that comes next is chosen; whatever follows explains it


def reasoned(example: ProblemExample, schema: CategorySchema, codes: tuple[str, ...]) -> str:
    """An answer with its reasons, up to and with the code. codes: aligned with schema.answers.

    The right code comes first and what was set aside after it, so that the choice is the same one as in an answer at
    once. There is no sentence of the model's own in between: where it said freely what the words mean, the choice
    followed what it had said and not what the customer had.
    """
    code_of = dict(zip(schema.answers, codes, strict=False))
    said = " and ".join(f'"{quote}"' for quote in example.quotes)
    verdict = example.verdict
    text = f'The customer says {said}.{CHOICE} {code_of[verdict.key]} "{condition_text(verdict.decider)}"'
    for key, _, exclude in verdict.set_aside:
        text += f', not {code_of[key]}: "{condition_text(exclude)}"'
    return f"{text}.{ANSWER_MARK} {code_of[verdict.key]}"
