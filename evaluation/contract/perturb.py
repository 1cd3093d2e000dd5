"""Controlled changes of a schema whose right answers are known, open to training.

Families that training never sees (cycle, novel) live in `evaluation.suites`. A perturbation moves gold labels by
`moves`: a key of S to the answer under S_p, identity where not listed.
"""

import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from evaluation.contract.schema import Category, CategorySchema

IDENTITY = "identity"  # the family of no change
_LACKING = 0.3  # chance of each category to be lacking
OPAQUE_SYLLABLES = ("ka", "lo", "mi", "ru", "te", "va", "zo", "ne", "pi", "su", "do", "fa")


class Apart(NamedTuple):
    """Conversations that a change treats unlike others of their category, and where their answers go."""

    ids: frozenset[str] = frozenset()
    moves: Mapping[str | None, str | None] = {}


class Perturbed(NamedTuple):
    family: str
    detail: str
    schema: CategorySchema
    moves: Mapping[str, str | None]
    apart: Apart = Apart()

    def gold(self, category: str | None, conversation_id: str | None = None) -> str | None:
        """What is right after the change where `category` was before.

        conversation_id: needed where some are apart.
        """
        if conversation_id in self.apart.ids and category in self.apart.moves:
            return self.apart.moves[category]
        return category if category is None else self.moves.get(category, category)


def identity(schema: CategorySchema) -> Perturbed:
    return Perturbed(IDENTITY, "", schema, {})


def permute_meanings(
    schema: CategorySchema, sources: Mapping[str, str], family: str, detail: str
) -> Perturbed:
    """Category `k` takes definition, includes and excludes of `sources[k]`; keys and names stay."""
    taken = {key: schema.category(source) for key, source in sources.items()}

    def changed(category: Category) -> Category:
        source = taken.get(category.key)
        if source is None:
            return category
        kept = {"definition": source.definition, "includes": source.includes, "excludes": source.excludes}
        return category.model_copy(update=kept)

    moved = schema.model_copy(update={"categories": tuple(changed(c) for c in schema.categories)})
    return Perturbed(family, detail, moved, {source: key for key, source in sources.items()})


def swap(schema: CategorySchema, first: str, second: str) -> Perturbed:
    return permute_meanings(schema, {first: second, second: first}, "swap", f"{first} <-> {second}")


def rename_opaque(schema: CategorySchema, rng: random.Random) -> Perturbed:
    names: list[str] = []
    while len(names) < len(schema.categories):
        name = "".join(rng.choices(OPAQUE_SYLLABLES, k=3))
        if name not in names:
            names.append(name)
    return _renamed(schema, names, "opaque")


def rename_misleading(schema: CategorySchema, rng: random.Random) -> Perturbed:
    """Names rotated so that none stays with its definition (needs two categories or more)."""
    order = list(range(len(schema.categories)))
    rng.shuffle(order)
    names = [""] * len(order)
    for here, there in zip(order, order[1:] + order[:1], strict=True):
        names[here] = schema.categories[there].name
    return _renamed(schema, names, "misleading")


def shuffle(schema: CategorySchema, rng: random.Random) -> Perturbed:
    """Order and, because codes follow the order, codes."""
    categories = list(schema.categories)
    rng.shuffle(categories)
    return Perturbed("shuffle", "", schema.model_copy(update={"categories": tuple(categories)}), {})


def drop(schema: CategorySchema, keys: Sequence[str]) -> Perturbed:
    """Without these: what was of them is none of these. keys: not all that there are."""
    kept = tuple(category for category in schema.categories if category.key not in keys)
    left = schema.model_copy(update={"categories": kept, "none_of_these": True})
    return Perturbed("drop", ", ".join(keys), left, dict.fromkeys(keys))


def lacking(schema: CategorySchema, rng: random.Random) -> Perturbed:
    """Without some, one at least; identity of a single category. What answers at once may learn from it, but no trace:
    that may argue with a category which is not there."""
    keys = list(schema.keys)
    if len(keys) < 2:
        return identity(schema)
    gone = [key for key in keys if rng.random() < _LACKING] or [rng.choice(keys)]
    if len(gone) == len(keys):
        gone.remove(rng.choice(keys))
    return drop(schema, gone)


def for_training(schema: CategorySchema, rng: random.Random) -> Perturbed:
    """One perturbation of the seen families, or none, at random; categories are shuffled in every case."""
    if len(schema.categories) < 2:
        return identity(schema)
    shuffled = shuffle(schema, rng).schema
    family = rng.choice(("shuffle", "swap", "opaque", "misleading"))
    if family == "swap":
        return swap(shuffled, *rng.sample(shuffled.keys, 2))
    if family == "opaque":
        return rename_opaque(shuffled, rng)
    if family == "misleading":
        return rename_misleading(shuffled, rng)
    return Perturbed("shuffle", "", shuffled, {})


def _renamed(schema: CategorySchema, names: list[str], detail: str) -> Perturbed:
    renamed = tuple(c.model_copy(update={"name": n}) for c, n in zip(schema.categories, names, strict=True))
    return Perturbed("rename", detail, schema.model_copy(update={"categories": renamed}), {})
