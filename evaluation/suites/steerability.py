"""The steerability suite: controlled edits of a schema, and the conversations that show whether answers follow.

Training never sees this file: the families `cycle` and `drop`, and the choice of examples, exist only here.
Two choices matter to the measure. An edit moves several categories at once, and it draws unequal numbers of examples
from categories that exchange their meanings: equal numbers would cancel in the marginals, and a model that ignores
the edit would look the same as one that follows it. Accuracy is measured on a plain random sample (`natural`),
because a stratified one has no majority to over-select.
"""

import hashlib
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from evaluation.contract import perturb
from evaluation.contract.perturb import Perturbed
from evaluation.contract.record import Conversation
from evaluation.contract.schema import CategorySchema

SEEN: Final[Mapping[str, bool]] = {
    "swap": True,
    "rename": True,
    "shuffle": True,
    "cycle": False,
    "drop": False,
}
MUST_MOVE_SHARE = 2 / 3
IDENTITY_SHARE = 0.35  # of the budget
LEAST_PER_CATEGORY = 12
LEAST_PER_PERTURBATION = 12
ByCategory: TypeAlias = Mapping[str | None, Sequence[Conversation]]


class SuiteError(ValueError):
    """No suite can be built from these conversations; the message says what is missing."""


class Item(NamedTuple):
    conversation_id: str
    perturbation: int  # 0 is the schema as it is
    gold_before: str | None
    gold_after: str | None
    natural: bool = False

    @property
    def must_move(self) -> bool:
        return self.gold_after != self.gold_before


class Suite(NamedTuple):
    schema: CategorySchema
    perturbations: tuple[Perturbed, ...]
    items: tuple[
        Item, ...
    ]  # in order of perturbation, so that requests that share a prompt prefix go together
    conversations: Mapping[str, Conversation]
    seed: int

    @property
    def sha256(self) -> str:
        """Of everything that a prediction or a score depends on."""
        content = {
            "perturbations": [
                [p.family, p.detail, p.schema.sha256, dict(p.moves)] for p in self.perturbations
            ],
            "items": [list(item) for item in self.items],
            "conversations": {
                c.id: [[m.role, m.text] for m in c.messages] for c in self.conversations.values()
            },
            "seed": self.seed,
        }
        canonical = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def answers(self, perturbation: int) -> tuple[str | None, ...]:
        """Every answer that the schema or its perturbed form allows."""
        after = self.perturbations[perturbation].schema.answers
        return (*self.schema.keys, None) if None in (*self.schema.answers, *after) else self.schema.keys


def build(
    schema: CategorySchema,
    conversations: Iterable[Conversation],
    *,
    seed: int = 0,
    max_items: int = 1200,
    per_family: int = 4,
) -> Suite:
    """max_items: requests in all, those of the unperturbed schema included.

    Raises: SuiteError where no conversation has a label of this schema.
    """
    rng = random.Random(seed)
    labelled = sorted(
        (c for c in conversations if c.labelled and c.category in schema.answers), key=lambda c: c.id
    )
    if not labelled:
        raise SuiteError("no held-out conversation has a label of this schema; the gate needs labelled ones")
    natural, pool = _pool(labelled, int(max_items * IDENTITY_SHARE), rng)
    by_category = _by_category(pool)
    per_family = max(1, min(per_family, (max_items - len(pool)) // (len(SEEN) * LEAST_PER_PERTURBATION)))
    perturbations = (perturb.identity(schema), *_perturbations(schema, by_category, per_family, rng))
    items = [Item(c.id, 0, c.category, c.category, c.id in natural) for c in pool]
    each = max(0, max_items - len(pool)) // max(1, len(perturbations) - 1)
    for index, perturbed in enumerate(perturbations[1:], start=1):
        chosen = _examples(perturbed, by_category, each, rng)
        items += [Item(c.id, index, c.category, perturbed.gold(c.category)) for c in chosen]
    return Suite(schema, perturbations, tuple(items), {c.id: c for c in pool}, seed)


def cycle(schema: CategorySchema, rings: Sequence[Sequence[str]]) -> Perturbed:
    """In each ring every category takes the meaning of the next one."""
    sources = {key: ring[(i + 1) % len(ring)] for ring in rings for i, key in enumerate(ring)}
    return perturb.permute_meanings(schema, sources, "cycle", "; ".join(" <- ".join(ring) for ring in rings))


def swaps(schema: CategorySchema, pairs: Sequence[Sequence[str]]) -> Perturbed:
    sources = {key: other for first, second in pairs for key, other in ((first, second), (second, first))}
    return perturb.permute_meanings(schema, sources, "swap", "; ".join(f"{a} <-> {b}" for a, b in pairs))


def drop(schema: CategorySchema, keys: Sequence[str]) -> Perturbed:
    kept = tuple(category for category in schema.categories if category.key not in keys)
    if not kept:
        raise SuiteError("a schema keeps at least one category")
    left = schema.model_copy(update={"categories": kept, "none_of_these": True})
    return Perturbed("drop", ", ".join(keys), left, dict.fromkeys(keys))


def _perturbations(
    schema: CategorySchema, by_category: ByCategory, per_family: int, rng: random.Random
) -> list[Perturbed]:
    keys, still = schema.keys, max(1, per_family // 2)
    made: list[Perturbed] = []
    if len(keys) < 2:
        return made

    def order() -> list[str]:
        return _favouring_many(keys, by_category, rng)

    made += [swaps(schema, _groups(order(), 2, max(1, len(keys) // 3))) for _ in range(per_family)]
    for number in range(per_family if len(keys) >= 3 else 0):
        length = min(3 + number % 2, len(keys))
        made.append(cycle(schema, _groups(order(), length, max(1, 2 * len(keys) // (3 * length)))))
    made += [drop(schema, order()[: max(1, len(keys) // 4)]) for _ in range(per_family)]
    # Renaming and shuffling ask for no shift at all. Half as many of them: a rank correlation in which most of the
    # expected values are 0 says more about the ties than about the model.
    for number in range(still):
        made.append((perturb.rename_misleading, perturb.rename_opaque)[number % 2](schema, rng))
    return made + [perturb.shuffle(schema, rng) for _ in range(still)]


def _favouring_many(keys: Sequence[str], by_category: ByCategory, rng: random.Random) -> list[str]:
    """A random order in which categories with many examples tend to come first."""
    weight = {key: max(0.05, len(by_category.get(key, ())) ** 0.5) for key in keys}
    drawn = {key: rng.random() ** (1 / weight[key]) for key in keys}
    return sorted(keys, key=lambda key: -drawn[key])


def _groups(order: Sequence[str], length: int, count: int) -> list[Sequence[str]]:
    return [order[i * length : (i + 1) * length] for i in range(count)]


def _examples(
    perturbed: Perturbed, by_category: ByCategory, count: int, rng: random.Random
) -> list[Conversation]:
    moving = [key for key in perturbed.moves if by_category.get(key)]
    still = [category for category in by_category if category not in perturbed.moves]
    must_move = round(count * (MUST_MOVE_SHARE if still else 1)) if moving else 0
    chosen = _unequal(perturbed, by_category, must_move, rng)
    return chosen + _spread({c: by_category[c] for c in still}, count - must_move, rng)


def _unequal(
    perturbed: Perturbed, by_category: ByCategory, count: int, rng: random.Random
) -> list[Conversation]:
    """3 : 1 of two categories that exchange their meanings, 5 : 3 : 1 around a cycle of three, and so on."""
    available = {key: by_category.get(key, ()) for key in perturbed.moves}
    rings = _rings(perturbed.moves, sorted(available, key=lambda key: -len(available[key])))
    parts = {key: 2 * (len(ring) - i) - 1 for ring in rings for i, key in enumerate(ring)}
    chosen: list[Conversation] = []
    for key, members in available.items():
        wanted = round(count * parts[key] / sum(parts.values()))
        chosen += rng.sample(members, min(len(members), wanted))
    return chosen


def _rings(moves: Mapping[str, str | None], starts: list[str]) -> list[list[str]]:
    """The orbits of the moves; a dropped category is an orbit of its own."""
    left, rings = set(starts), []
    for start in starts:
        ring: list[str] = []
        here: str | None = start
        while here is not None and here in left:
            left.remove(here)
            ring.append(here)
            here = moves[here]
        if ring:
            rings.append(ring)
    return rings


def _spread(by_category: ByCategory, count: int, rng: random.Random) -> list[Conversation]:
    """Round by round one of each category, so that rare ones are not lost."""
    shuffled = [rng.sample(list(members), len(members)) for members in by_category.values()]
    rng.shuffle(shuffled)
    longest = max((len(members) for members in shuffled), default=0)
    rounds = [members[i] for i in range(longest) for members in shuffled if i < len(members)]
    return rounds[: max(0, count)]


def _pool(
    labelled: Sequence[Conversation], budget: int, rng: random.Random
) -> tuple[set[str], list[Conversation]]:
    """A plain random sample, and with it enough of every category for the edits to have something to move."""
    drawn = rng.sample(labelled, min(len(labelled), max(1, budget)))
    natural = {c.id for c in drawn}
    pool = list(drawn)
    have = {category: len(members) for category, members in _by_category(drawn).items()}
    by_category = _by_category(labelled)
    least = min(LEAST_PER_CATEGORY, budget // len(by_category))
    for category, members in by_category.items():
        missing = max(0, least - have.get(category, 0))
        others = [c for c in members if c.id not in natural]
        pool += rng.sample(others, min(len(others), missing))
    return natural, sorted(pool, key=lambda c: c.id)


def _by_category(conversations: Iterable[Conversation]) -> dict[str | None, list[Conversation]]:
    grouped: dict[str | None, list[Conversation]] = {}
    for conversation in conversations:
        grouped.setdefault(conversation.category, []).append(conversation)
    return grouped
