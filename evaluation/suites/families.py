"""Changes of a schema whose right answers are known, for measuring alone: training sees none of this file.

`swap`, `rename`, `shuffle` and `drop` are of the kind that training may use; the others exist only here.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from evaluation.contract import perturb
from evaluation.contract.perturb import Apart, Perturbed
from evaluation.contract.record import Conversation
from evaluation.contract.schema import Category, CategorySchema
from evaluation.suites.deciders import decider
from evaluation.suites.predicates import Predicate

SEEN: Final[Mapping[str, bool]] = {
    "swap": True,
    "rename": True,
    "shuffle": True,
    "cycle": False,
    "drop": True,  # by what SFT answers at once
    "boundary": False,
    "novel": False,
    "split": False,
    "merge": False,
    "reword": False,
}


class SuiteError(ValueError):
    """No suite can be built of this schema and these conversations; the message says what is missing."""


def swaps(schema: CategorySchema, pairs: Sequence[Sequence[str]]) -> Perturbed:
    sources = {key: other for first, second in pairs for key, other in ((first, second), (second, first))}
    return perturb.permute_meanings(schema, sources, "swap", "; ".join(f"{a} <-> {b}" for a, b in pairs))


def cycle(schema: CategorySchema, rings: Sequence[Sequence[str]]) -> Perturbed:
    """In each ring every category takes the meaning of the next one."""
    sources = {key: ring[(i + 1) % len(ring)] for ring in rings for i, key in enumerate(ring)}
    return perturb.permute_meanings(schema, sources, "cycle", "; ".join(" <- ".join(ring) for ring in rings))


def drop(schema: CategorySchema, keys: Sequence[str]) -> Perturbed:
    if set(schema.keys) <= set(keys):
        raise SuiteError("a schema keeps at least one category")
    return perturb.drop(schema, keys)


def novel(
    schema: CategorySchema, predicate: Predicate, wording: int, conversations: Iterable[Conversation]
) -> Perturbed:
    """A category that comes before all others. wording: which of the predicate's, modulo their number."""
    said = predicate.wordings[wording % len(predicate.wordings)]
    key = _free("special case", schema)
    added = Category(
        key=key,
        name=key,
        definition=f"the customer {said}; this category comes before all others, whatever else the customer wants",
    )
    changed = schema.model_copy(update={"categories": (*schema.categories, added)})
    apart = Apart(_meeting(predicate, conversations), dict.fromkeys(schema.answers, key))
    return Perturbed("novel", f"{key}: the customer {said}", changed, {}, apart)


def split(
    schema: CategorySchema,
    key: str,
    predicate: Predicate,
    wording: int,
    conversations: Iterable[Conversation],
) -> Perturbed:
    """One category becomes two: its conversations in which the predicate holds, and the rest of them."""
    whole = schema.category(key)
    with_it, without = _free(f"{key} 1", schema), _free(f"{key} 2", schema)
    said = predicate.wordings[wording % len(predicate.wordings)]
    not_said = predicate.negations[wording % len(predicate.negations)]
    halves = tuple(
        whole.model_copy(
            update={
                "key": new,
                "name": new,
                "definition": f"{_open(whole.definition)}, and the customer {condition}",
            }
        )
        for new, condition in ((with_it, said), (without, not_said))
    )
    changed = _replaced(schema, {key: halves})
    apart = Apart(_meeting(predicate, conversations), {key: with_it})
    return Perturbed("split", f"{key}: whether the customer {said}", changed, {key: without}, apart)


def merge(schema: CategorySchema, first: str, second: str) -> Perturbed:
    """Two categories become one. What each excludes stays with its own half of the definition."""
    if len(schema.categories) < 3:
        raise SuiteError("of two categories one would be left")
    parts = [schema.category(key) for key in (first, second)]
    key = _free(f"{first} or {second}", schema)
    together = {
        "key": key,
        "name": key,
        "definition": "either " + "; or ".join(map(_with_its_excludes, parts)),
        "includes": tuple(dict.fromkeys(text for part in parts for text in part.includes)),
        "excludes": (),
    }
    one = parts[0].model_copy(update=together)
    changed = _replaced(schema, {first: (one,), second: ()})
    return Perturbed("merge", f"{first} + {second}", changed, {first: key, second: key})


def boundary(
    schema: CategorySchema,
    source: str,
    include: str,
    target: str | None,
    conversations: Iterable[Conversation],
) -> Perturbed:
    """An include moves to the category `target`, or, where that is None, becomes an exclude of its own category.

    Conversations that it decides (`decider`) move with it. Raises: SuiteError where they would have no answer.
    """
    if target is None and not schema.none_of_these:
        raise SuiteError("what is excluded here must be none of these, which the schema does not allow")
    here = schema.category(source)
    less = {"includes": tuple(text for text in here.includes if text != include)}
    if target is None:
        less["excludes"] = (*here.excludes, include)
    changes = {source: (here.model_copy(update=less),)}
    if target is not None:
        there = schema.category(target)
        changes[target] = (there.model_copy(update={"includes": (*there.includes, include)}),)
    own = [c for c in conversations if c.category == source]
    ids = frozenset(c.id for c in own if decider(schema, c, by_label=target is not None) == include)
    where = "excluded" if target is None else f"-> {target}"
    return Perturbed(
        "boundary",
        f"{source}: {include!r} {where}",
        _replaced(schema, changes),
        {},
        Apart(ids, {source: target}),
    )


def reword(schema: CategorySchema, reworded: CategorySchema, detail: str) -> Perturbed:
    """Raises: SuiteError where the other schema does not have the same answers."""
    if schema.answers != reworded.answers:
        there, here = set(reworded.answers), set(schema.answers)
        missing = ", ".join(sorted(map(str, here ^ there))) or "their order"
        raise SuiteError(f"the rewording {detail} does not have the same categories: {missing}")
    return Perturbed("reword", detail, reworded, {})


def decided(
    schema: CategorySchema, conversations: Iterable[Conversation], *, by_label: bool = False
) -> Counter[tuple[str, str]]:
    """By category and include: how many conversations are known to be decided by it."""
    includes = {(category.key, text) for category in schema.categories for text in category.includes}
    pairs = ((c.category or "", decider(schema, c, by_label=by_label) or "") for c in conversations)
    return Counter(pair for pair in pairs if pair in includes)


def _meeting(predicate: Predicate, conversations: Iterable[Conversation]) -> frozenset[str]:
    return frozenset(c.id for c in conversations if predicate.holds(c))


def _with_its_excludes(category: Category) -> str:
    return "".join(
        [_open(category.definition), *(f", but not if {_open(text)}" for text in category.excludes)]
    )


def _open(sentence: str) -> str:
    """To be gone on with."""
    return sentence.rstrip(" .")


def _replaced(schema: CategorySchema, changes: Mapping[str, tuple[Category, ...]]) -> CategorySchema:
    changed = (new for old in schema.categories for new in changes.get(old.key, (old,)))
    return schema.model_copy(update={"categories": tuple(changed)})


def _free(wanted: str, schema: CategorySchema) -> str:
    """A key, and name, that no category has."""
    taken = {text for category in schema.categories for text in (category.key, category.name)}
    name, number = wanted.replace(" ", "_"), 2
    while name in taken:
        name, number = f"{wanted.replace(' ', '_')}_{number}", number + 1
    return name
