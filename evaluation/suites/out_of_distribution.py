"""Conversations under schemas that the model was not trained for: what it must still be able to classify.

In a service of many tenants, another tenant's schema and conversations are private. Only what anybody may see belongs
in here: the caller decides, and `evaluation.metrics.out_of_distribution.shipped` has examples that come with
the product.
"""

import hashlib
import json
import random
from collections.abc import Sequence
from typing import NamedTuple

from evaluation.contract.record import Conversation
from evaluation.contract.schema import CategorySchema
from evaluation.inference.runner import Question, Questions
from evaluation.suites.families import SuiteError


class OutOfDistributionItem(NamedTuple):
    schema: int  # index in the suite's schemas
    conversation: Conversation

    @property
    def key(self) -> str:
        """Two schemas may have conversations of one id."""
        return f"{self.schema}/{self.conversation.id}"


class OutOfDistributionSuite(NamedTuple):
    schemas: tuple[CategorySchema, ...]
    items: tuple[
        OutOfDistributionItem, ...
    ]  # schema by schema, so that requests that share a prompt prefix go together
    seed: int

    @property
    def sha256(self) -> str:
        """Of everything that a prediction or a score depends on."""
        content = {
            "schemas": [schema.sha256 for schema in self.schemas],
            "items": [[i.schema, i.conversation.model_dump(mode="json")] for i in self.items],
            "seed": self.seed,
        }
        canonical = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def questions(self) -> Questions:
        each = tuple(Question(self.schemas[i.schema], i.conversation) for i in self.items)
        return Questions(self.sha256, each, "schemas of others")


def build(
    others: Sequence[tuple[CategorySchema, Sequence[Conversation]]], *, seed: int = 0, max_items: int = 300
) -> OutOfDistributionSuite:
    """A plain random sample of each schema's labelled conversations, the same number of each as far as they go.

    Raises: SuiteError where there is no schema, two have one name, or one has no labelled conversation.
    """
    schemas = tuple(schema for schema, _ in others)
    if not schemas or len({schema.name for schema in schemas}) < len(schemas):
        raise SuiteError("accuracy on other schemas needs at least one, and each with a name of its own")
    rng = random.Random(seed)
    drawn = [_shuffled(schema, conversations, rng) for schema, conversations in others]
    longest = max(len(members) for members in drawn)
    rounds = [
        OutOfDistributionItem(number, members[i])
        for i in range(longest)
        for number, members in enumerate(drawn)
        if i < len(members)
    ]
    items = sorted(rounds[:max_items], key=lambda item: (item.schema, item.conversation.id))
    return OutOfDistributionSuite(schemas, tuple(items), seed)


def _shuffled(
    schema: CategorySchema, conversations: Sequence[Conversation], rng: random.Random
) -> list[Conversation]:
    labelled = sorted(
        (c for c in conversations if c.labelled and c.category in schema.answers), key=lambda c: c.id
    )
    if not labelled:
        raise SuiteError(f"no conversation has a label of the schema {schema.name!r}")
    return rng.sample(labelled, len(labelled))
