"""What a teacher is worth is counted by answers as serving reads them, and what is taught has one form."""

from types import SimpleNamespace

import pytest

from evaluation.contract.parse import ParseFailure, parse
from evaluation.contract.perturb import identity
from evaluation.contract.render import render
from tests.training.shop import Tenant, response
from training.data.examples import Example
from training.data.rewards import FORMAT, answers_rightly, reward
from training.data.trace_filter import quality_of
from training.stages.distill.preflight import _right

CODES = ("B", "D", "A", "C")


def example_of(tenant: Tenant) -> Example:
    conversation = tenant.conversations[0]
    prompt = render(tenant.schema, conversation, CODES)
    return Example(conversation, identity(tenant.schema), prompt, conversation.category)


class Decoded(SimpleNamespace):
    """In a trainer's place: of its tokenizer only this is asked."""

    @property
    def processing_class(self) -> "Decoded":
        return self

    def batch_decode(self, written: list[str], **_: object) -> list[str]:
        return written


# As the parser reads them: a full stop is no part of the code, and what comes after a line of its own is not read.
READ = (
    "Sure.\nAnswer: B",
    "Sure.\nAnswer: B.",
    "Sure.\nAnswer: B\n",
    "Answer: D\nNo:\nAnswer: B\nThat is all.",
)
WRONG = ("Sure.\nAnswer: D", "Sure. The code is B", "Sure.\nAnswer: Z", "")


def test_a_preflight_counts_as_right_what_serving_would_read_as_right(tenant: Tenant) -> None:
    example = example_of(tenant)
    texts = [*READ, *WRONG]
    assert [answers_rightly(text, example) for text in texts] == [True] * len(READ) + [False] * len(WRONG)
    rows = [{"example": example} for _ in texts]
    assert _right(Decoded(), texts, rows) == len(READ) / len(texts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "in_form"),
    [
        ("Sure.\nAnswer: B", True),
        ("Sure.\n\nAnswer: B\n", True),
        ("Sure.\nAnswer: B.", False),
        ("Sure.\nAnswer: B B", False),
        ("Answer: B", False),
        ("Sure.\nAnswer: B\nI am sure.", False),
        ("Sure.\nAnswer: B\nAnswer: B", False),
        ("Sure.\nAnswer: BB, so Answer: B", False),
    ],
)
def test_what_is_rewarded_for_its_form_is_what_the_prompt_asks_for(
    text: str, in_form: bool, tenant: Tenant
) -> None:
    example = example_of(tenant)
    found = reward(text, tenant.schema, CODES, example.conversation, example.gold)
    assert found.format == (FORMAT if in_form else 0.0)


def test_no_trace_is_kept_whose_form_is_not_to_be_learned(tenant: Tenant) -> None:
    example = example_of(tenant)
    whole = response(example.conversation, tenant.schema, CODES)
    assert quality_of(whole, example) is not None
    twice = f"{whole}\nAnswer: B"
    assert parse(twice, tenant.schema, CODES).failure is not ParseFailure.no_label
    assert quality_of(twice, example) is None
