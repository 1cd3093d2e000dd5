"""What a base could do before: sentences by their likeliest end, and how far a model's own words are from the base."""

from typing import Any

import anyio
import httpx
import pytest

from app.serving.base import STARTER, find_base
from app.studies import retained
from app.studies.retained import Ends, RetainedAnswer, RetainedWords
from evaluation.inference.predictor import VllmPredictor
from evaluation.inference.tokenizer_files import load_codes
from tests.evaluation.fake_server import FakeServer, says
from tests.evaluation.shop import SCHEMA, conversations
from training.starter.world import BenchItem

CODES = load_codes(find_base(STARTER).folder, 2)


class Speller(FakeServer):
    """One token a character. The base finds a character less likely than a model finds its own."""

    def respond(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.bodies.append(body)
        if "prompt" in body:  # a text that says "water" is likelier than others
            each = -1.0 if "water" in body["prompt"] else -2.0
            tokens = [None, *({"1": {"logprob": each}} for _ in body["prompt"][1:])]
            return 200, {"choices": [{"text": "x", "prompt_logprobs": tokens}]}
        last = body["messages"][-1]
        if "prompt_logprobs" in body:
            assert body["model"] == "base" and last["role"] == "assistant"
            tokens = [None, *({"1": {"logprob": -0.75}} for _ in range(len(last["content"]) + 9))]
            return 200, {"choices": [{"message": {"content": "x"}}], "prompt_logprobs": tokens}
        entries = [{"token": c, "logprob": -0.5, "bytes": list(c.encode())} for c in "Sure."]
        choice = {"message": {"content": "Sure."}, "logprobs": {"content": entries}}
        return 200, {"choices": [choice]}


def test_of_a_sentence_the_likeliest_end_counts_character_by_character() -> None:
    sentence = next(one for one in retained.sentences() if one.ends[0] == "water")

    async def run() -> Ends:
        server = Speller(lambda _asked: says("A"))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(server), base_url="http://model") as http:
            return await retained.ends(VllmPredictor(http, "arm", CODES), sentence)

    found = anyio.run(run)
    assert len(found.logprobs) == 4 and max(found.logprobs) == found.logprobs[0]
    assert retained.rightly_ended([sentence], [found]) == [True]
    wrong = Ends(logprobs=[-9.0, -1.0, -9.0, -9.0])
    assert retained.rightly_ended([sentence, sentence], [found, wrong]) == [True, False]


def test_the_distance_is_that_of_the_models_own_words_to_the_base() -> None:
    async def run() -> RetainedWords:
        server = Speller(lambda _asked: says("A"))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(server), base_url="http://model") as http:
            base, arm = (VllmPredictor(http, name, CODES) for name in ("base", "arm"))
            return await retained.drawn_words(base, arm, "Say something.")

    found = anyio.run(run)
    assert (found.text, found.tokens) == ("Sure.", 5)
    nothing = RetainedWords(text="", tokens=0, own=0.0, base=0.0)
    assert retained.distances([found, nothing]) == [pytest.approx(0.25), None]


def test_an_answer_that_was_not_written_freely_is_not_right() -> None:
    item = BenchItem(SCHEMA, conversations()[0], SCHEMA.keys[0], "…")
    free = RetainedAnswer(category=SCHEMA.keys[0], unreadable=False, forced_read=False, reasoning="so")
    found = [
        free,
        free.model_copy(update={"forced_read": True}),
        free.model_copy(update={"unreadable": True}),
    ]
    assert retained.rightly_answered([item] * 3, found) == [True, False, False]
    none = RetainedAnswer(category=None, unreadable=True, forced_read=False, reasoning="")
    assert retained.rightly_answered([item._replace(gold=None)], [none]) == [False]


def test_what_ships_can_be_asked() -> None:
    assert len(retained.sentences()) == 60 and len(set(retained.everyday_prompts())) == 24
    for sentence in retained.sentences():
        assert len(set(sentence.ends)) == 4 and not sentence.begins.endswith((" ", "."))
