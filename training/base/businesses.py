"""Problems from businesses that were written for this project: conditions that decide, messages as people type them.

Each conversation names its category, the condition that decides word for word, the excludes that took neighbours away,
and the customer's deciding words. So every draw below has a known answer and a reasoning for it.
"""

import json
import random
from collections import defaultdict
from collections.abc import Sequence
from importlib.resources import files
from itertools import cycle
from typing import Any, Final, NamedTuple

from evaluation.contract.perturb import rename_misleading
from evaluation.contract.record import Conversation, Message, Role, Split
from evaluation.contract.render import NONE_TEXT
from evaluation.contract.schema import Category, CategorySchema
from training.starter.lexicon import OPAQUE_NAMES
from training.starter.problems import ConditionVerdict, DecisionProblem, ProblemExample

# Never trained on. The first three have enough conversations for a gate; the others measure the base as it stands.
FOR_GATES: Final = ("second_hand_phone_shop", "city_bike_app", "meal_voucher_app")
FOR_BENCH: Final = (
    "airline_rebooking_desk",
    "bank_mortgage_servicing",
    "community_swimming_pool",
    "developer_support_of_a_payments_api",
    "furniture_maker",
    "it_service_desk_of_a_hospital",
    "kindergarten_operator",
    "online_pharmacy_consultations",
    "pet_insurance",
    "reports_of_content_on_a_classifieds_site",
    "tax_filing_software",
    "vending_machines",
)
QUESTIONS: Final = (
    "What does the customer want?",
    "Which of these is the last request about?",
    "Where does this belong?",
    "Who has to look at this?",
)
YES: Final = ("it is right", "this holds", "the answer is yes")
NO: Final = ("it is not right", "anything else", "the answer is no")
NONE_SHARE = (
    0.15  # of the conversations of categories that a schema leaves out, where it allows none of these
)


class Business(NamedTuple):
    name: str
    none_of_these: bool
    categories: list[dict[str, Any]]
    conversations: list[dict[str, Any]]

    def category(self, key: str) -> dict[str, Any]:
        return next(category for category in self.categories if category["key"] == key)


class BusinessDraw(NamedTuple):
    """sizes: least and most categories. whole: chance that the schema has all of its business's categories."""

    sizes: tuple[int, int]
    whole: float


def load() -> dict[str, Business]:
    """Every business that ships, by the name of its file; without the further ones."""
    return _load("businesses")


def load_further() -> dict[str, Business]:
    """Businesses with fewer conversations, written for the variety of their definitions; all are for training."""
    return _load("further_businesses")


def _load(folder: str) -> dict[str, Business]:
    found = {}
    for file in sorted(files("training.base").joinpath(folder).iterdir(), key=lambda f: f.name):
        if file.name.endswith(".json"):
            raw = json.loads(file.read_text(encoding="utf-8"))
            name = file.name.removesuffix(".json")
            found[name] = Business(name, raw["none_of_these"], raw["categories"], raw["conversations"])
    return found


def for_training(businesses: dict[str, Business]) -> list[Business]:
    return [b for name, b in businesses.items() if name not in FOR_GATES + FOR_BENCH]


def schema_of(business: Business, wording: int = 0) -> CategorySchema:
    """As the owner wrote it (wording 0), or with one of the two rewordings of every definition."""
    categories = tuple(
        Category(
            key=c["key"],
            name=c["name"],
            definition=(c["definition"], *c["reworded"])[wording],
            includes=tuple(c.get("includes", ())),
            excludes=tuple(c.get("excludes", ())),
        )
        for c in business.categories
    )
    return CategorySchema(name=business.name, none_of_these=business.none_of_these, categories=categories)


def conversation_of(row: dict[str, Any], category: str | None, number: int) -> Conversation:
    messages = tuple(Message(role=Role(m["role"]), text=m["text"]) for m in row["messages"])
    return Conversation(id=f"b{number}", messages=messages, category=category)


def in_halves(business: Business, seed: int, held_out: Sequence[Split] = (Split.test,)) -> list[Conversation]:
    """Of every category half is for training. held_out: what the rest is for, in turn; a gate can do with all of it."""
    of_category: dict[str | None, list[Conversation]] = defaultdict(list)
    for number, row in enumerate(business.conversations):
        of_category[row["category"]].append(conversation_of(row, row["category"], number))
    rng, others = random.Random(seed), cycle(held_out)
    placed = []
    for conversations in of_category.values():
        rng.shuffle(conversations)
        half = (len(conversations) + 1) // 2
        placed += [c.model_copy(update={"split": Split.train}) for c in conversations[:half]]
        placed += [c.model_copy(update={"split": next(others)}) for c in conversations[half:]]
    return placed


def example_of(
    row: dict[str, Any], business: Business, schema: CategorySchema, number: int
) -> ProblemExample:
    """The row under the whole schema of its business, in the owner's words."""
    wording = {c["key"]: c["definition"] for c in business.categories}
    verdict = _verdict(row, business, schema, wording)
    return ProblemExample(conversation_of(row, verdict.key, number), quotes_of(row), row["gist"], verdict)


def whole(business: Business, examples: int | None = None) -> DecisionProblem:
    """The schema as its owner wrote it, and so many conversations of all over the file; None: all of them."""
    schema = schema_of(business)
    count = len(business.conversations) if examples is None else examples
    rows = business.conversations[:: max(1, len(business.conversations) // count)][:count]
    return DecisionProblem(schema, [example_of(row, business, schema, n) for n, row in enumerate(rows)])


def quotes_of(row: dict[str, Any]) -> tuple[str]:
    return (row["quote"].replace('"', "").strip(),)


def sample_problem(
    businesses: list[Business], rng: random.Random, draw: BusinessDraw, examples: int
) -> DecisionProblem:
    """Some or all categories of one business; definitions in any of their wordings; names true, opaque or misleading.

    Conditions that no drawn conversation needs are left out at times; an include may have moved to another category.
    """
    business = rng.choice(businesses)
    categories = rng.sample(business.categories, len(business.categories))
    if rng.random() >= draw.whole:
        categories = categories[: max(1, rng.randint(*draw.sizes))]
    keys = [c["key"] for c in categories]
    partial = len(categories) < len(business.categories)
    allow_none = (
        len(keys) == 1 or (business.none_of_these and rng.random() < 0.9) or (partial and rng.random() < 0.5)
    )
    rows = [row for row in business.conversations if _usable(row, keys, allow_none, rng)]
    rows = rng.sample(rows, min(examples, len(rows)))
    if not rows:
        return sample_problem(businesses, rng, draw, examples)
    wording = {c["key"]: rng.choice((c["definition"], *c["reworded"])) for c in categories}
    schema = _schema(business, categories, wording, allow_none, _needed(rows), rng)
    moved = _moved_include(schema, rows, rng) if len(keys) > 1 and rng.random() < 0.10 else None
    if moved is not None:
        schema = moved.schema
    found = []
    for number, row in enumerate(rows):
        verdict = _verdict(row, business, schema, wording)
        if moved is not None and row["criterion"] == moved.include:
            verdict = ConditionVerdict(moved.key, moved.include, ())
        conversation = conversation_of(row, verdict.key, number)
        found.append(ProblemExample(conversation, quotes_of(row), row["gist"], verdict))
    return DecisionProblem(schema, found)


def yes_or_no(businesses: list[Business], rng: random.Random, examples: int) -> DecisionProblem:
    """One definition as a question with two answers; half of the conversations are of it, half are not."""
    business = rng.choice(businesses)
    asked = rng.choice(business.categories)
    definition = rng.choice((asked["definition"], *asked["reworded"]))
    question = rng.choice(("Is this right: {}", "Does this fit: {}", "{} - is that so?")).format(definition)
    schema = CategorySchema(
        name="question",
        question=question,
        categories=(
            Category(
                key="yes",
                name="yes",
                definition=rng.choice(YES),
            ),
            Category(
                key="no",
                name="no",
                definition=rng.choice(NO),
            ),
        ),
    )
    of_it = [row for row in business.conversations if row["category"] == asked["key"]]
    others = [row for row in business.conversations if row["category"] != asked["key"]]
    rows = rng.sample(of_it, min(len(of_it), examples // 2)) + rng.sample(
        others, min(len(others), examples // 2)
    )
    rng.shuffle(rows)
    found = []
    for number, row in enumerate(rows):
        key = "yes" if row["category"] == asked["key"] else "no"
        verdict = ConditionVerdict(key, schema.category(key).definition, ())
        conversation = conversation_of(row, key, number)
        found.append(ProblemExample(conversation, quotes_of(row), row["gist"], verdict))
    return DecisionProblem(schema, found)


class _Moved(NamedTuple):
    schema: CategorySchema
    include: str
    key: str  # of the category that has it now


def _usable(row: dict[str, Any], keys: list[str], allow_none: bool, rng: random.Random) -> bool:
    if row["category"] in keys:
        return True
    return allow_none and (row["category"] is None or rng.random() < NONE_SHARE)


def _needed(rows: list[dict[str, Any]]) -> set[str]:
    return {row["criterion"] for row in rows} | {
        s["exclude"] for row in rows for s in row.get("set_aside", ())
    }


def _schema(
    business: Business,
    categories: list[dict[str, Any]],
    wording: dict[str, str],
    allow_none: bool,
    needed: set[str],
    rng: random.Random,
) -> CategorySchema:
    complete = rng.random() < 0.75

    def kept(texts: list[str]) -> tuple[str, ...]:
        return tuple(text for text in texts if complete or text in needed or rng.random() < 0.5)

    style = rng.random()
    opaque = rng.sample(OPAQUE_NAMES, len(categories))
    made = tuple(
        Category(
            key=c["key"],
            name=code_name if style < 0.25 else c["name"],
            definition=wording[c["key"]],
            includes=kept(c.get("includes", [])),
            excludes=kept(c.get("excludes", [])),
        )
        for c, code_name in zip(categories, opaque, strict=True)
    )
    question = rng.choice(QUESTIONS) if rng.random() < 0.05 else None
    schema = CategorySchema(name=business.name, question=question, none_of_these=allow_none, categories=made)
    return rename_misleading(schema, rng).schema if style > 0.75 and len(made) > 1 else schema


def _moved_include(schema: CategorySchema, rows: list[dict[str, Any]], rng: random.Random) -> _Moved | None:
    """An include that decides some of the rows, taken from its category and given to another."""
    deciding = {row["criterion"] for row in rows}
    found = [(c, text) for c in schema.categories for text in c.includes if text in deciding]
    if not found:
        return None
    source, include = rng.choice(found)
    target = rng.choice([c for c in schema.categories if c.key != source.key])

    def changed(category: Category) -> Category:
        if category.key == source.key:
            return category.model_copy(
                update={"includes": tuple(t for t in category.includes if t != include)}
            )
        if category.key == target.key:
            return category.model_copy(update={"includes": (*category.includes, include)})
        return category

    moved = schema.model_copy(update={"categories": tuple(changed(c) for c in schema.categories)})
    return _Moved(moved, include, target.key)


def _verdict(
    row: dict[str, Any], business: Business, schema: CategorySchema, wording: dict[str, str]
) -> ConditionVerdict:
    key = row["category"] if row["category"] in schema.keys else None
    aside = tuple(
        (s["key"], wording[s["key"]], s["exclude"])
        for s in row.get("set_aside", ())
        if s["key"] in schema.keys and s["key"] != key
    )[:1]
    if key is None:
        return ConditionVerdict(None, NONE_TEXT, aside)
    by_definition = row["criterion"] == business.category(key)["definition"]
    return ConditionVerdict(key, wording[key] if by_definition else row["criterion"], aside)
