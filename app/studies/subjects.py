"""Whom a study is about: tenants of the generated world, businesses that ship, or a folder with a tenant's files.

Each has labelled conversations and what an expert wrote of them: the world's own traces, what a business's author noted
of every conversation, or a folder's experts.jsonl (as `traces.files` reads it).
"""

import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from app.cli.files import read_file, read_schema
from app.errors import InputError
from app.runs.inputs import Inputs, checked
from evaluation.contract.record import Conversation, Split
from evaluation.contract.schema import CategorySchema
from training.base import businesses
from training.base.businesses import Business
from training.starter.world import (
    TRADES,
    BenchItem,
    DemoTenant,
    bench_items,
    demo_tenant,
    expert_traces,
    handbook,
)

WORLD: Final = tuple(f"world:{number}" for number in range(len(TRADES)))
SCHEMA, CONVERSATIONS, EXPERTS = "schema.json", "conversations.jsonl", "experts.jsonl"  # of a folder
_HELD_OUT: Final = (Split.test, Split.test, Split.calibration, Split.test, Split.validation)  # of a business
_OF_BUSINESS = ("quote", "gist", "criterion", "set_aside")


class Subject(NamedTuple):
    """brought: what an expert wrote, for a traces stage to judge; None in the world, which writes traces itself."""

    name: str
    category_schema: CategorySchema
    conversations: list[Conversation]
    brought: list[dict[str, Any]] | None
    world: DemoTenant | None = None
    trade: int = 0

    def traces(self, inputs: Inputs, codes: tuple[str, ...], seed: int) -> list[dict[str, Any]]:
        """Rows of a traces.jsonl, of the conversations that are learned from; none outside the world."""
        if self.world is None:
            return []
        learned = {c.id for c in inputs.splits[Split.train]}
        return [row for row in expert_traces(self.world, codes, seed) if row["id"] in learned]

    def texts(self, count: int, seed: int) -> list[dict[str, Any]]:
        """What its staff are told of its products; only the world's tenants have such a handbook."""
        return [] if self.world is None else handbook(count, seed, self.trade)


def check(source: str) -> CategorySchema:
    """What there is to know of it before hours are spent. Raises: InputError."""
    subject = load(source, 0)
    if subject.world is None:  # the world draws another tenant with each seed
        checked(subject.category_schema, subject.conversations)
    return subject.category_schema


def load(source: str, seed: int) -> Subject:
    """source: `world:NUMBER`, `business:NAME`, or a folder. seed: of the world, or of a business's halves.

    Raises: InputError.
    """
    kind, _, name = source.partition(":")
    if source in WORLD:
        tenant = demo_tenant(seed, int(name))
        return Subject(source, tenant.category_schema, tenant.conversations, None, tenant, int(name))
    if kind == "business" and name in (shops := businesses.load()):
        return _business(shops[name], seed)
    if Path(source).is_dir():
        return _folder(Path(source))
    apart = ", ".join(f"business:{one}" for one in businesses.FOR_GATES)
    raise InputError(
        f"there is no tenant {source!r} to study",
        [
            f"there are {', '.join(WORLD)}, and business:NAME of those that ship (large enough for a gate, and apart "
            f"from the base's training: {apart})",
            f"or name a folder with {SCHEMA}, {CONVERSATIONS} and, for arms that learn from an expert, {EXPERTS}",
        ],
    )


def title(source: str) -> str:
    """As it is called in tables."""
    kind, _, name = source.partition(":")
    if source in WORLD:
        return TRADES[int(name)].name
    return name.replace("_", " ") if kind == "business" else Path(source).name


def retention_items(sources: Sequence[str], count: int, seed: int) -> list[BenchItem]:
    """Questions under schemas of nobody who is studied: the world's for its tenants, else whole schemas of businesses
    that no base has been trained on."""
    if set(sources) <= set(WORLD):
        return bench_items("unseen_pairs", count, seed)
    shops = businesses.load()
    names = [name for name in businesses.FOR_BENCH if f"business:{name}" not in sources]
    rng = random.Random(f"retention-{seed}")
    shuffled = {name: rng.sample(shops[name].conversations, len(shops[name].conversations)) for name in names}
    each = -(-count // len(names))
    drawn = [
        (name, shuffled[name][turn]) for turn in range(each) for name in names if turn < len(shuffled[name])
    ]
    items: list[BenchItem] = []
    for name, row in sorted(drawn[:count], key=lambda one: one[0]):
        schema = businesses.schema_of(shops[name])
        conversation = businesses.conversation_of(row, row["category"], len(items))
        items.append(BenchItem(schema, conversation, row["category"], row["criterion"]))
    return items


def lines(rows: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def _business(shop: Business, seed: int) -> Subject:
    conversations = businesses.in_halves(shop, seed, _HELD_OUT)
    rows = {
        businesses.conversation_of(row, None, number).id: row for number, row in enumerate(shop.conversations)
    }
    brought = [
        {"id": c.id} | {name: rows[c.id][name] for name in _OF_BUSINESS if rows[c.id].get(name)}
        for c in conversations
        if c.split is Split.train
    ]
    return Subject(f"business:{shop.name}", businesses.schema_of(shop), conversations, brought)


def _folder(folder: Path) -> Subject:
    schema = read_schema(folder / SCHEMA)
    given = read_file(folder / CONVERSATIONS, schema)
    brought = []
    if (folder / EXPERTS).is_file():
        text = (folder / EXPERTS).read_text(encoding="utf-8")
        brought = [json.loads(line) for line in text.split("\n") if line.strip()]
    return Subject(str(folder), schema, given.conversations, brought)
