"""The baseline is a good classifier and cannot be steered: that is what it is there to show."""

import asyncio
import random

from evaluation.baselines import TfidfPredictor, measure
from evaluation.contract.record import Conversation, Split
from evaluation.contract.schema import CategorySchema, parse_schema
from evaluation.suites import steerability

WORDS = {
    "refund": ("money back", "refund please", "charge reversed"),
    "delivery": ("parcel late", "where is my order", "courier never came"),
    "account": ("password forgotten", "cannot log in", "account locked"),
    "invoice": ("bill is wrong", "invoice missing", "copy of my bill"),
}


def schema() -> CategorySchema:
    rows = [
        {"key": key, "name": key, "definition": f"The customer says {words[0]}."}
        for key, words in WORDS.items()
    ]
    return parse_schema({"name": "shop", "categories": rows})


def conversations(split: Split, count: int) -> list[Conversation]:
    rng = random.Random(split.value)
    made = []
    for number in range(count):
        key = rng.choice(list(WORDS))
        text = f"{rng.choice(('hello', 'hi', 'well'))} {rng.choice(WORDS[key])} {rng.randint(10, 99)}"
        raw = {
            "id": f"{split}{number}",
            "category": key,
            "split": split,
            "messages": [{"role": "customer", "text": text}],
        }
        made.append(Conversation.model_validate(raw))
    return made


def test_it_is_accurate_and_does_not_follow_an_edit() -> None:
    suite = steerability.build(schema(), conversations(Split.test, 160), max_items=400)
    measured = asyncio.run(measure(suite, conversations(Split.train, 200)))
    assert (measured["tfidf_accuracy"].value or 0) > 0.95
    assert measured["tfidf_accuracy"].ci95 is not None
    assert (measured["tfidf_flip_accuracy"].value or 0) < 0.35
    assert (measured["tfidf_steerability"].value or 0) < 0.5
    assert (measured["tfidf_invariance"].value or 0) > 0.9


def test_an_answer_that_the_schema_no_longer_has_is_never_given() -> None:
    predictor = TfidfPredictor(conversations(Split.train, 200))
    left = schema().model_copy(update={"categories": schema().categories[1:], "none_of_these": True})
    asked = next(c for c in conversations(Split.test, 50) if c.category == "refund")
    prediction = asyncio.run(predictor.predict(left, asked))
    assert prediction.category in left.answers
    assert prediction.probabilities is not None
    assert abs(sum(prediction.probabilities.values()) - 1) < 1e-6
    assert prediction.label_mass is not None
    assert prediction.label_mass < 1
