import pytest

from evaluation.contract.record import Conversation, Message, Role
from evaluation.contract.schema import CategorySchema
from tests.training.shop import Tenant, response
from training.data.rewards import EVIDENCE, FORMAT, LABEL, Reward, reward

CODES = ("B", "D", "A", "C")


def scored(text: str, schema: CategorySchema, gold: str | None = "refund") -> Reward:
    said = Message(role=Role.customer, text="I want my money back for the lamp")
    return reward(text, schema, CODES, Conversation(id="c", messages=(said,)), gold)


def test_a_right_well_formed_answer_with_true_quotes_gets_everything(tenant: Tenant) -> None:
    for conversation in tenant.conversations:
        text = response(conversation, tenant.schema, CODES)
        found = reward(text, tenant.schema, CODES, conversation, conversation.category)
        assert found.total == pytest.approx(LABEL + FORMAT + EVIDENCE)


def test_a_wrong_answer_gets_no_more_than_form_and_evidence(schema: CategorySchema) -> None:
    text = 'They say "my money back". This fits "the customer cannot sign in" = A\nAnswer: A'
    assert scored(text, schema) == Reward(0.0, FORMAT, EVIDENCE)


def test_a_right_answer_that_quotes_nothing_keeps_the_label_alone_and_the_form(
    schema: CategorySchema,
) -> None:
    assert scored("They want a refund.\nAnswer: B", schema) == Reward(LABEL, FORMAT, 0.0)


def test_an_invented_quote_is_no_evidence(schema: CategorySchema) -> None:
    text = 'They say "give me the manager". This fits "the customer wants their money back" = B\nAnswer: B'
    assert scored(text, schema).evidence == pytest.approx(EVIDENCE / 2)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Answer:",
        "\nAnswer: ",
        "The code is B",
        "x\nAnswer: Z",
        "x\nAnswer: B B"[:9],
        "\x00",
        "Answer" * 500,
    ],
)
def test_malformed_output_gets_nothing_and_raises_nothing(text: str, schema: CategorySchema) -> None:
    assert scored(text, schema) == Reward(0.0, 0.0, 0.0)


def test_hedging_with_two_answers_loses_the_form(schema: CategorySchema) -> None:
    assert scored("Maybe.\nAnswer: A\nAnswer: B", schema).format == 0.0


def test_words_after_the_answer_lose_the_form(schema: CategorySchema) -> None:
    assert scored("Maybe.\nAnswer: B, I think so", schema) == Reward(LABEL, 0.0, 0.0)


def test_none_of_these_is_an_answer_like_any_other(schema: CategorySchema) -> None:
    assert scored('It is "none of these" = C\nAnswer: C', schema, None).label == LABEL
    assert scored('It is "none of these" = C\nAnswer: C', schema, "login").label == 0.0
