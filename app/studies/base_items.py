"""What the base is asked as it stands, before a tenant's first label: nothing that it was trained on as an answer."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from app.errors import InputError
from evaluation.contract.perturb import rename_misleading
from evaluation.contract.record import Conversation, Split, parse_jsonl
from evaluation.contract.render import condition_text
from evaluation.contract.schema import Category, CategorySchema, parse_schema
from training.base import businesses
from training.starter import corpus as utterances
from training.starter.intents import INTENTS
from training.starter.problems import ProblemExample

TENANTS: Final = ("clinc-banking", "sgd-travel", "banking77-cards", "multidogo-airline")
TENANT: Final = "tenants."  # and its name: the part of a tenant's items
PER_SCHEMA: Final = 4  # utterances under one drawing of unseen intents, which share their prompt's beginning
INTENTS_SHOWN: Final = 5


class Item(NamedTuple):
    """parts: what it counts for. told: the condition that decides, where the model is told the answer."""

    parts: tuple[str, ...]
    schema: CategorySchema
    conversation: Conversation
    gold: str | None
    told: str | None = None


class BaseItems(NamedTuple):
    """items: in the order in which they are asked. twins: pairs of positions that should be answered alike."""

    items: list[Item]
    twins: list[tuple[int, int]]


class ItemCounts(NamedTuple):
    """intents: utterances under unseen intents. of_business, of_tenant: conversations of each, at most."""

    intents: int
    of_business: int
    of_tenant: int


def paper(data: Path, counts: ItemCounts, seed: int) -> BaseItems:
    """data: the folder with corpus/ and tenants/. Raises: InputError."""
    rng = random.Random(seed)
    made = _unseen(data / "corpus", counts.intents, rng)
    made.items.extend(_businesses(counts.of_business, rng))
    for name in TENANTS:
        made.items.extend(_tenant(data / "tenants" / name, counts.of_tenant, rng))
    return made


def _unseen(folder: Path, count: int, rng: random.Random) -> BaseItems:
    try:
        corpus = utterances.load(folder)
    except OSError as error:
        raise InputError(
            f"the corpus of utterances cannot be read from {folder} ({error.strerror}); it is not part of the project: "
            "name the folder that has corpus/ and tenants/ with --data"
        ) from None
    items: list[Item] = []
    twins = []
    while len(items) < 4 * count:
        problem = utterances.sample_problem(corpus, rng, INTENTS_SHOWN, PER_SCHEMA, held=True)
        permuted = rename_misleading(problem.schema, rng).schema
        reworded = _reworded(problem.schema, rng)
        for example in problem.examples:
            gold, at = example.verdict.key, len(items)
            items.append(Item(("unseen_intents",), problem.schema, example.conversation, gold))
            items.append(Item(("permuted_names",), permuted, example.conversation, gold))
            items.append(Item((), reworded, example.conversation, gold))
            told = condition_text(example.verdict.decider)
            items.append(Item(("told_answer",), problem.schema, example.conversation, gold, told))
            twins.append((at, at + 2))
    return BaseItems(items, twins)


def _reworded(schema: CategorySchema, rng: random.Random) -> CategorySchema:
    """The same intents with definitions that the project wrote for them, but other ones."""

    def other(category: Category) -> Category:
        known = INTENTS[schema.name][category.key].definitions
        return category.model_copy(
            update={"definition": rng.choice([text for text in known if text != category.definition])}
        )

    return schema.model_copy(update={"categories": tuple(other(c) for c in schema.categories)})


def _businesses(count: int, rng: random.Random) -> Iterator[Item]:
    shops = businesses.load()
    for name in businesses.FOR_BENCH:
        shop = shops[name]
        schema = businesses.schema_of(shop)
        rows = list(enumerate(shop.conversations))
        for number, row in rng.sample(rows, min(count, len(rows))):
            example = businesses.example_of(row, shop, schema, number)
            said = example.conversation.model_copy(update={"id": f"{name}-{number}"})
            yield Item(("businesses", *_decided(example, schema)), schema, said, example.verdict.key)


def _decided(example: ProblemExample, schema: CategorySchema) -> list[str]:
    """What the right answer rests on: an include that brings it in, an exclude that keeps a neighbour out, or both."""
    if example.verdict.key is None:
        return ["businesses_none"]
    found = []
    if example.verdict.decider in schema.category(example.verdict.key).includes:
        found.append("businesses_include")
    if example.verdict.set_aside:
        found.append("businesses_exclude")
    return found


def _tenant(folder: Path, count: int, rng: random.Random) -> Iterator[Item]:
    try:
        schema = parse_schema((folder / "schema.json").read_bytes())
        read = parse_jsonl((folder / "conversations.jsonl").read_bytes(), schema)
    except OSError as error:
        raise InputError(f"the tenant in {folder} cannot be read: {error.strerror}") from None
    test = [c for c in read.conversations if c.labelled and c.split is Split.test]
    for conversation in rng.sample(test, min(count, len(test))):
        yield Item((TENANT + folder.name,), schema, conversation, conversation.category)
