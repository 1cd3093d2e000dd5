"""Models that the gate must tell apart: one that follows definitions, and three ways not to."""

import hashlib
from collections.abc import Callable
from functools import cache

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from evaluation.contract.record import Conversation, Split, conversation_from_text
from evaluation.contract.render import condition_text, plain
from evaluation.suites.predicates import LIBRARY, phrases
from tests.evaluation.fake_server import CODES, Asked, Model, Reply, says
from tests.evaluation.shop import SCHEMA, conversations, definition_of, of_split


@cache
def oracle() -> Model:
    """Knows which definition fits a text and reads criteria: new categories first, then halves and unions."""
    plain_reader = _reader()
    tests = _criteria()
    fits = _Fits()

    def meets(asked: Asked, condition: str) -> bool:
        return tests[condition.removeprefix("the customer ")](conversation_from_text(asked.customer))

    def option(asked: Asked) -> str | None:
        for one in asked.options:
            condition, separator, _ = one.definition.partition("; this category comes before")
            if separator and meets(asked, condition):
                return one.code
        mine = fits.get(asked.customer)
        wanted = None if mine is None else condition_text(mine).rstrip(" .").lower()
        for one in asked.options if wanted else ():
            text = one.definition.lower()
            whole, separator, _ = text.partition(", and the customer ")
            if separator and whole == wanted:
                if meets(asked, one.definition.rpartition(", and ")[2]):
                    return one.code
            elif text.startswith("either ") and str(wanted) in text:
                return one.code
        return None

    def answer(asked: Asked) -> Reply:
        code = option(asked)
        return plain_reader(asked) if code is None else says(code, f'The customer says "{asked.customer}".')

    return answer


class _Fits:
    """Which definition fits a text, whatever somebody has written around it."""

    def __init__(self) -> None:
        self._known = {plain(c.said[-1]): definition_of(c.category) for c in conversations()}

    def get(self, text: str) -> str | None:
        known = text if text in self._known else next((k for k in self._known if k in text), None)
        return None if known is None else self._known[known]


def _criteria() -> dict[str, Callable[[Conversation], bool]]:
    found: dict[str, Callable[[Conversation], bool]] = {}
    for one in (*LIBRARY, *phrases(of_split(Split.test), 0.0, 1.0)):
        found |= dict.fromkeys(one.wordings, one.holds)
        found |= {text: (lambda c, holds=one.holds: not holds(c)) for text in one.negations}  # type: ignore[misc]
    return found


def _reader() -> Model:
    """Looks up where the definition that fits a text now stands."""
    fits = _Fits()

    def answer(asked: Asked) -> Reply:
        definition = fits.get(asked.customer)
        wanted = None if definition is None else condition_text(definition)
        code = next((o.code for o in asked.options if o.definition == wanted), asked.none_code)
        code = code or asked.options[0].code  # of a schema that is not the shop's
        return says(code, f'The customer says "{asked.customer}", so "{wanted or "none of these"}" decides.')

    return answer


@cache
def habit() -> Model:
    """TF-IDF and a fixed code for each class: what training for accuracy alone tends to make of a model."""
    classifier = _classifier()
    code_of = dict(zip([str(answer) for answer in SCHEMA.answers], CODES.texts, strict=False))

    def answer(asked: Asked) -> Reply:
        return says(code_of[classifier.predict([asked.customer])[0]])

    return answer


@cache
def name_reader() -> Model:
    """TF-IDF, then the category of the learned name, whatever its definition says now."""
    classifier = _classifier()
    name_of = {str(c.key): c.name for c in SCHEMA.categories}

    def answer(asked: Asked) -> Reply:
        name = name_of.get(classifier.predict([asked.customer])[0])
        code = next((o.code for o in asked.options if o.name == name), asked.none_code)
        return says(code or asked.options[0].code)

    return answer


@cache
def dice() -> Model:
    def answer(asked: Asked) -> Reply:
        codes = _codes(asked)
        return says(codes[_number(asked) % len(codes)])

    return answer


@cache
def overconfident() -> Model:
    """As the oracle six times in ten, and always just as sure."""
    right = oracle()

    def answer(asked: Asked) -> Reply:
        (code,) = right(asked).probabilities
        others = [one for one in _codes(asked) if one != code]
        if _number(asked) % 10 >= 6:
            code, others = others[0], [code, *others[1:]]
        return Reply(f"Because.\nAnswer: {code}", {code: 0.98} | dict.fromkeys(others, 0.02 / len(others)))

    return answer


def _codes(asked: Asked) -> list[str]:
    return [o.code for o in asked.options] + ([asked.none_code] if asked.none_code else [])


def _number(asked: Asked) -> int:
    return int(hashlib.sha256(repr((asked.customer, asked.options)).encode()).hexdigest(), 16)


def _classifier() -> Pipeline:
    train = of_split(Split.train)
    classifier = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(C=30))
    return classifier.fit([c.said[-1] for c in train], [str(c.category) for c in train])
