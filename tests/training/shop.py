"""A tenant small enough to read."""

from pathlib import Path
from typing import NamedTuple

from evaluation.contract.record import Conversation
from evaluation.contract.render import NONE_TEXT, condition_text
from evaluation.contract.schema import CategorySchema

WORDS = {
    "refund": ("The customer wants their money back.", "i want my money back for the {}"),
    "delivery": ("The customer asks where a parcel is.", "where is my {} parcel"),
    "login": ("The customer cannot sign in.", "i cannot sign in to the {} app"),
}
THINGS = ("blue shoes", "garden chair", "coffee", "winter coat", "phone case", "red lamp")


class Tenant(NamedTuple):
    schema: CategorySchema
    conversations: list[Conversation]
    path: Path


def response(conversation: Conversation, schema: CategorySchema, codes: tuple[str, ...]) -> str:
    """A right answer in the starter's form."""
    key = conversation.category
    condition = NONE_TEXT if key is None else condition_text(schema.category(key).definition)
    code = codes[schema.answers.index(key)]
    quote = conversation.messages[-1].text
    return f'The customer says "{quote}". This fits {code} "{condition}"\nAnswer: {code}'
