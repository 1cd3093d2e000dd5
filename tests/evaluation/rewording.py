"""Teachers who say the shop's categories in other words, well and badly, on one server with a grader."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx

from evaluation.contract.record import Conversation
from evaluation.contract.render import condition_text, plain
from evaluation.contract.schema import CategorySchema
from evaluation.inference.http import Retries
from evaluation.inference.model_client import Sending
from evaluation.tools.equivalence import Grader, to_try
from evaluation.tools.reword import INSTRUCTION, Teacher, reword
from tests.evaluation.fake_server import Asked, FakeServer, Model, Reply, predictor, says
from tests.evaluation.shop import SCHEMA, conversations

WORDS = {
    "refund": "Somebody who bought a thing would like to be paid back what it cost.",
    "tracking": "A shipment is being looked for by the person waiting for it.",
    "cancel": "Before anything leaves the warehouse, the buyer withdraws.",
    "damage": "What was delivered is in pieces or does not work.",
    "invoice": "Proof of payment, on paper or as a file, is wished for.",
    "size": "The same article is wanted larger, smaller or differently dyed.",
}
AT_ONCE = Sending(Retries(attempts=4, backoff_s=0.001))
Answers = Callable[[str, int], str]  # a teacher: of a category's key and how often it was asked of it before


def words(key: str) -> str:
    return json.dumps({"definition": WORDS[key], "includes": [], "excludes": []})


def honest(key: str, _: int) -> str:
    return words(key)


def copies(key: str, _: int) -> str:
    definition = SCHEMA.category(key).definition
    said = {"definition": definition.replace("The customer", "A customer"), "includes": [], "excludes": []}
    return json.dumps(said)


def swaps(key: str, _: int) -> str:
    return words({"refund": "invoice", "invoice": "refund"}.get(key, key))


def understands() -> Model:
    """Finds the definition that fits a text, in the words of the shop or of an honest teacher."""
    fits = {plain(c.said[-1]): c.category for c in conversations()}
    means = {condition_text(c.definition): c.key for c in SCHEMA.categories}
    means |= {condition_text(text): key for key, text in WORDS.items()}

    def answer(asked: Asked) -> Reply:
        wanted = fits[asked.customer]
        code = next((o.code for o in asked.options if means.get(o.definition) == wanted), asked.none_code)
        return says(code or "A")

    return answer


class Server(FakeServer):
    """Teacher and grader on one server. asked: of which categories, in order."""

    def __init__(self, teacher: Answers, grader: Model | None = None, **options: Any):
        super().__init__(grader or understands(), **options)
        self.teacher, self.asked = teacher, list[str]()

    def respond(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if body["messages"][0]["content"] != INSTRUCTION or self.failing:
            return super().respond(body)
        assert body.keys() == {"model", "messages"}, "something that not every server knows"
        named = json.loads(body["messages"][1]["content"])["name"]
        key = next(c.key for c in SCHEMA.categories if c.name == named)
        self.asked.append(key)
        message = {"role": "assistant", "content": self.teacher(key, self.asked.count(key) - 1)}
        return 200, {"choices": [{"message": message, "finish_reason": "stop"}], "usage": None}


def learned(per_category: int = 15) -> list[Conversation]:
    return to_try(conversations(), SCHEMA, per_category)


def reworded_by(server: Server, *, graded: bool = True, per_category: int = 15) -> tuple[CategorySchema, str]:
    async def done() -> tuple[CategorySchema, str]:
        client = httpx.AsyncClient(transport=httpx.ASGITransport(server), base_url="http://model")
        grader = Grader(predictor(server), SCHEMA, 0.9) if graded else None
        if grader is not None:
            await grader.prepare(learned(per_category))
        return await reword(SCHEMA, Teacher(client, "teacher", sending=AT_ONCE), grader)

    return asyncio.run(done())
