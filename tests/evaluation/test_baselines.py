"""Linear baselines are accurate and cannot be steered; similarity needs no label: that is what they are to show."""

import asyncio
import random

import pytest

from evaluation import sentence_encoder
from evaluation.baselines import (
    EMBEDDINGS,
    LEARNED,
    SHOWN,
    SIMILARITY,
    TFIDF,
    SimilarityPredictor,
    embeddings,
    measure,
    missing,
    tfidf,
)
from evaluation.contract.perturb import swap
from evaluation.contract.record import Conversation, Split, conversation_from_text
from evaluation.contract.schema import CategorySchema, parse_schema
from evaluation.sentence_encoder import SentenceEncoder
from evaluation.suites import steerability
from evaluation.suites.steerability import Suite

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


def suite() -> Suite:
    return steerability.build(schema(), conversations(Split.test, 160), max_items=400)


@pytest.mark.seconds
def test_each_that_learns_is_accurate_and_does_not_follow_an_edit() -> None:
    made = measure(suite(), conversations(Split.train, 200))
    assert made.left_out == {}
    for name in LEARNED:
        measured = {shown: made.measures[f"{name}_{shown}"] for shown in SHOWN}
        assert (measured["accuracy"].value or 0) > 0.95
        assert measured["accuracy"].ci95 is not None
        assert (measured["flip_accuracy"].value or 0) < 0.35
        assert (measured["steerability"].value or 0) < 0.5
        assert (measured["invariance"].value or 0) > 0.9


def test_embeddings_read_words_that_no_training_conversation_had() -> None:
    train = conversations(Split.train, 200)
    asked = {"the payment should be given back to me": "refund", "my shipment has not arrived": "delivery"}
    predictor = embeddings(train)
    for text, category in asked.items():
        answer = asyncio.run(predictor.predict(schema(), conversation_from_text(text)))
        assert answer.category == category, text


def test_without_the_package_the_others_are_measured_and_the_reason_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sentence_encoder, "PACKAGES", ("no-such-package",) * 5)
    made = measure(suite(), conversations(Split.train, 200))
    assert f"{TFIDF}_accuracy" in made.measures and f"{EMBEDDINGS}_accuracy" not in made.measures
    assert sentence_encoder.INSTALL in made.left_out[EMBEDDINGS]
    assert f"{SIMILARITY}_accuracy" not in made.measures and SIMILARITY in made.left_out
    assert missing() == made.left_out


def test_of_one_category_nothing_can_be_learned_and_similarity_learns_nothing_anyway() -> None:
    alike = [c for c in conversations(Split.train, 50) if c.category == "refund"]
    made = measure(suite(), alike)
    assert set(made.left_out) == {TFIDF, EMBEDDINGS}
    assert {name.partition("_")[0] for name in made.measures} == {SIMILARITY}
    assert (made.measures[f"{SIMILARITY}_accuracy"].value or 0) > 0.6


def test_similarity_goes_by_the_definition_whatever_it_is_called() -> None:
    predictor = SimilarityPredictor(SentenceEncoder().encode)
    said = conversation_from_text("the courier never came with my parcel")
    plain = schema()
    for shown, expected in ((plain, "delivery"), (swap(plain, "delivery", "invoice").schema, "invoice")):
        answer = asyncio.run(predictor.predict(shown, said))
        assert answer.category == expected
        assert answer.probabilities is not None and abs(sum(answer.probabilities.values()) - 1) < 1e-6
    included = plain.model_copy(
        update={
            "none_of_these": True,
            "categories": (
                plain.categories[0].model_copy(update={"includes": ("a courier does not come",)}),
                *plain.categories[2:],
            ),
        }
    )
    assert asyncio.run(predictor.predict(included, said)).category == "refund"


def test_an_answer_that_the_schema_no_longer_has_is_never_given() -> None:
    predictor = tfidf(conversations(Split.train, 200))
    left = schema().model_copy(update={"categories": schema().categories[1:], "none_of_these": True})
    asked = next(c for c in conversations(Split.test, 50) if c.category == "refund")
    prediction = asyncio.run(predictor.predict(left, asked))
    assert prediction.category in left.answers
    assert prediction.probabilities is not None
    assert abs(sum(prediction.probabilities.values()) - 1) < 1e-6
    assert prediction.label_mass is not None
    assert prediction.label_mass < 1
