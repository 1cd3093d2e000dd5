"""A small tenant whose right answers are known by construction."""

from itertools import product

from evaluation.contract.record import Conversation, Split, conversation_from_text
from evaluation.contract.schema import Category, CategorySchema

KINDS = {
    "refund": (
        "Refund",
        "The customer wants money back for a purchase.",
        (
            "I want my money back for {}",
            "please refund {}",
            "give me a refund on {}",
            "how do I get paid back for {}",
        ),
    ),
    "tracking": (
        "Where is it",
        "The customer asks where a parcel is.",
        ("where is the parcel with {}", "track {} for me", "has {} shipped yet", "the courier lost {}"),
    ),
    "cancel": (
        "Cancel",
        "The customer wants to call off an order that was not sent.",
        ("cancel {}", "call off my order of {}", "I no longer want {}, stop the order", "do not send {}"),
    ),
    "damage": (
        "Damaged goods",
        "The customer reports that something arrived broken.",
        ("{} arrived broken", "{} came with a crack", "there is a dent in {}", "{} was smashed in the box"),
    ),
    "invoice": (
        "Invoice",
        "The customer asks for a bill or a receipt.",
        (
            "send me the invoice for {}",
            "I need a receipt for {}",
            "where is the bill for {}",
            "print the bill of {}",
        ),
    ),
    "size": (
        "Exchange",
        "The customer wants another size or colour.",
        (
            "{} is too small",
            "swap {} for a larger one",
            "I need {} in red instead",
            "exchange {} for size ten",
        ),
    ),
}
NONE_TEXTS = ("tell me a joke about {}", "who painted {}", "what rhymes with {}", "is {} good for dogs")
THINGS = (
    *("the lamp", "my shoes", "the blue kettle", "a chair", "the phone case"),
    *("two mugs", "the coat", "this book", "the rug", "our tent"),
)

SCHEMA = CategorySchema(
    name="shop",
    none_of_these=True,
    categories=tuple(Category(key=key, name=name, definition=text) for key, (name, text, _) in KINDS.items()),
)


def conversations() -> list[Conversation]:
    """40 of each category and of none; things alternate between training and test."""
    texts = {key: kind[2] for key, kind in KINDS.items()} | {None: NONE_TEXTS}
    made = []
    for category, templates in texts.items():
        for number, (template, thing) in enumerate(product(templates, THINGS)):
            split = Split.train if number % 2 else Split.test
            update = {"id": f"{category}-{number}", "category": category, "split": split}
            text = conversation_from_text(template.format(thing))
            made.append(Conversation.model_validate(text.model_dump() | update))
    return made


def of_split(split: Split) -> list[Conversation]:
    return [c for c in conversations() if c.split is split]


def definition_of(category: str | None) -> str | None:
    return None if category is None else SCHEMA.category(category).definition
