"""Which edits of a schema a suite makes: drawn so that there are conversations in which they show."""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from pydantic import ValidationError

from evaluation.contract import perturb
from evaluation.contract.perturb import Perturbed
from evaluation.contract.record import Conversation
from evaluation.contract.schema import CategorySchema, SchemaError
from evaluation.suites import families, predicates
from evaluation.suites.predicates import LIBRARY, Predicate

LEAST_APART = 4  # conversations on either side of a new criterion, or decided by what moves
NOVEL_SHARES: Final = (0.05, 0.6)  # of conversations that may meet a new category's criterion
SPLIT_SHARES: Final = (0.25, 0.75)
PHRASES: Final = 8
ByCategory: TypeAlias = Mapping[str | None, Sequence[Conversation]]


class Drawing(NamedTuple):
    """pool: the conversations that may be asked; grouped: by category. rewordings: by their origin.

    per_family: edits of one, at most.
    """

    schema: CategorySchema
    pool: Sequence[Conversation]
    grouped: ByCategory
    rewordings: Mapping[str, CategorySchema]
    per_family: int
    rng: random.Random

    def of(self, family: str) -> list[Perturbed]:
        """Fewer, or none, where the schema or the conversations do not allow it."""
        if len(self.schema.keys) < 2:
            return []
        return [edit for edit in _FAMILIES[family](self) if _is_a_schema(edit.schema)]

    @property
    def still(self) -> int:
        """Of families that ask for no shift at all. Half as many of them: a rank correlation in which most of the
        expected values are 0 says more about the ties than about the model."""
        return max(1, self.per_family // 2)

    def order(self) -> list[str]:
        """A random order in which categories with many examples tend to come first."""
        weight = {key: max(0.05, len(self.grouped.get(key, ())) ** 0.5) for key in self.schema.keys}
        drawn = {key: self.rng.random() ** (1 / weight[key]) for key in self.schema.keys}
        return sorted(self.schema.keys, key=lambda key: -drawn[key])


def _swap(at: Drawing) -> list[Perturbed]:
    pairs = max(1, len(at.schema.keys) // 3)
    return [families.swaps(at.schema, _groups(at.order(), 2, pairs)) for _ in range(at.per_family)]


def _cycle(at: Drawing) -> list[Perturbed]:
    keys, made = len(at.schema.keys), []
    for number in range(at.per_family if keys >= 3 else 0):
        length = min(3 + number % 2, keys)
        rings = max(1, 2 * keys // (3 * length))
        made.append(families.cycle(at.schema, _groups(at.order(), length, rings)))
    return made


def _drop(at: Drawing) -> list[Perturbed]:
    few = max(1, len(at.schema.keys) // 4)
    return [families.drop(at.schema, at.order()[:few]) for _ in range(at.per_family)]


def _rename(at: Drawing) -> list[Perturbed]:
    kinds = (perturb.rename_misleading, perturb.rename_opaque)
    return [kinds[number % 2](at.schema, at.rng) for number in range(at.still)]


def _shuffle(at: Drawing) -> list[Perturbed]:
    return [perturb.shuffle(at.schema, at.rng) for _ in range(at.still)]


def _novel(at: Drawing) -> list[Perturbed]:
    found = _fitting(at.pool, NOVEL_SHARES)
    chosen = at.rng.sample(found, min(len(found), at.per_family))
    return [families.novel(at.schema, one, n, at.pool) for n, one in enumerate(chosen)]


def _split(at: Drawing) -> list[Perturbed]:
    made: list[Perturbed] = []
    for key in at.order():
        found = _fitting(at.grouped.get(key, ()), SPLIT_SHARES)
        if found and len(made) < at.per_family:
            made.append(families.split(at.schema, key, at.rng.choice(found), len(made), at.pool))
    return made


def _merge(at: Drawing) -> list[Perturbed]:
    if len(at.schema.keys) < 3:
        return []
    pairs = dict.fromkeys(tuple(sorted(at.order()[:2])) for _ in range(at.per_family))
    return [families.merge(at.schema, first, second) for first, second in pairs]


def _boundary(at: Drawing) -> list[Perturbed]:
    """Every second include becomes an exclude, where what it decides can then be none of these."""
    by_label, known = (families.decided(at.schema, at.pool, by_label=only) for only in (True, False))
    movable = {pair for pair, count in by_label.items() if count >= LEAST_APART}
    excludable = {pair for pair, count in known.items() if count >= LEAST_APART and at.schema.none_of_these}
    usable = sorted(movable | excludable)
    made = []
    for number, (key, include) in enumerate(at.rng.sample(usable, min(len(usable), at.per_family))):
        excluded = (key, include) in excludable and (number % 2 == 1 or (key, include) not in movable)
        target = None if excluded else at.rng.choice([other for other in at.schema.keys if other != key])
        made.append(families.boundary(at.schema, key, include, target, at.pool))
    return made


def _reword(at: Drawing) -> list[Perturbed]:
    chosen = list(at.rewordings.items())[: at.still]
    return [families.reword(at.schema, reworded, origin) for origin, reworded in chosen]


WHY_NONE: Final[Mapping[str, str]] = {
    "cycle": "the schema has fewer than three categories",
    "merge": "the schema has fewer than three categories, or two of them say more together than one may",
    "novel": "no criterion that can be checked tells enough of the conversations apart, or the schema is full",
    "split": "no criterion that can be checked tells enough conversations of a category apart, or no category may say "
    "it besides what it says",
    "boundary": f"no include is known to decide {LEAST_APART} held-out conversations; labels can name theirs as "
    "`criterion`, and `python -m evaluation.tools.deciders` has a teacher find them",
    "reword": "no rewording of the schema was given",
}
"""Why `Drawing.of` may return nothing for a schema of two categories or more."""

_FAMILIES: Final[Mapping[str, Callable[[Drawing], list[Perturbed]]]] = {
    "swap": _swap,
    "cycle": _cycle,
    "drop": _drop,
    "rename": _rename,
    "shuffle": _shuffle,
    "boundary": _boundary,
    "novel": _novel,
    "split": _split,
    "merge": _merge,
    "reword": _reword,
}


def _fitting(conversations: Sequence[Conversation], shares: tuple[float, float]) -> list[Predicate]:
    """Predicates that hold for neither too few of them nor too many; of words, the commonest few."""
    lowest, highest = shares
    usual = [one for one in LIBRARY if lowest <= predicates.share(one, conversations) <= highest]
    words = predicates.phrases(conversations, lowest, highest)[:PHRASES]
    return [one for one in (*usual, *words) if _both_sides(one, conversations)]


def _both_sides(predicate: Predicate, conversations: Sequence[Conversation]) -> bool:
    met = sum(predicate.holds(conversation) for conversation in conversations)
    return LEAST_APART <= met <= len(conversations) - LEAST_APART


def _is_a_schema(edited: CategorySchema) -> bool:
    """Edits that add words, or categories, may go beyond what a schema can have."""
    try:
        CategorySchema.model_validate(edited.model_dump())
    except (ValidationError, SchemaError):
        return False
    return True


def _groups(order: Sequence[str], length: int, count: int) -> list[Sequence[str]]:
    return [order[i * length : (i + 1) * length] for i in range(count)]


def by_category(conversations: Iterable[Conversation]) -> dict[str | None, list[Conversation]]:
    grouped: dict[str | None, list[Conversation]] = {}
    for conversation in conversations:
        grouped.setdefault(conversation.category, []).append(conversation)
    return grouped
