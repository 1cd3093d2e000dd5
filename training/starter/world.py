"""What the rest of the product sees of the world: a demo tenant and what the starter is measured on. Torch-free."""

import random
from typing import Any, Literal, NamedTuple

from evaluation.contract.perturb import rename_misleading
from evaluation.contract.record import Conversation, Split
from evaluation.contract.render import render, render_conversation
from evaluation.contract.schema import Category, CategorySchema
from training.data.examples import Trace
from training.starter.facts import Matcher, random_issue
from training.starter.lexicon import OBJECTS
from training.starter.problems import ProblemExample, Rule, decide, reasoning, sample_problem
from training.starter.talk import tell


class DemoTenant(NamedTuple):
    """examples: what the world knows of each conversation."""

    category_schema: CategorySchema
    conversations: list[Conversation]
    examples: tuple[ProblemExample, ...] = ()


class BenchItem(NamedTuple):
    schema: CategorySchema
    conversation: Conversation
    gold: str | None
    decider: str


class Trade(NamedTuple):
    """What a demo tenant deals in.

    rules: key, share of the traffic, definition, includes, excludes. named: the object that most call by a product's
    name.
    """

    name: str
    rules: tuple[tuple[str, float, Matcher, tuple[Matcher, ...], tuple[Matcher, ...]], ...]
    named: str
    products: tuple[str, ...]


_SHOP = Trade(
    "demo",
    (
        ("stop_order", 0.40, Matcher("cancel", "order"), (), ()),
        ("money_back", 0.12, Matcher("refund", "order"), (Matcher("dispute", "invoice"),), ()),
        ("amend_order", 0.12, Matcher("change", "order"), (), ()),
        ("end_plan", 0.09, Matcher("cancel", "subscription"), (), (Matcher(circumstance="moved_house"),)),
        (
            "relocation",
            0.06,
            Matcher("cancel", "subscription", "moved_house"),
            (Matcher("change", "address"),),
            (),
        ),
        ("plan_refund", 0.07, Matcher("refund", "subscription"), (), ()),
        ("hold_plan", 0.07, Matcher("change", "subscription"), (Matcher("pause", "subscription"),), ()),
        ("delivery", 0.07, Matcher("track", "parcel"), (Matcher("lost", "parcel"),), ()),
    ),
    "order",
    ("orbita", "zelvo", "kwendo", "brintal", "tazzik", "plunira"),
)
_BANK = Trade(
    "bank",
    (
        ("stop_card", 0.38, Matcher("cancel", "credit_card"), (), ()),
        ("amend_card", 0.13, Matcher("change", "credit_card"), (Matcher("upgrade", "credit_card"),), ()),
        ("new_card", 0.12, Matcher("create", "credit_card"), (Matcher("renew", "credit_card"),), ()),
        (
            "close_savings",
            0.09,
            Matcher("cancel", "savings_account"),
            (),
            (Matcher(circumstance="lost_job"),),
        ),
        (
            "hardship",
            0.06,
            Matcher("cancel", "savings_account", "lost_job"),
            (Matcher("pause", "loan"),),
            (),
        ),
        ("amend_savings", 0.07, Matcher("change", "savings_account"), (), ()),
        ("new_savings", 0.07, Matcher("create", "savings_account"), (), ()),
        ("payments", 0.08, Matcher("track", "bank_transfer"), (Matcher("lost", "bank_transfer"),), ()),
    ),
    "credit_card",
    ("dreniq", "florvo", "vantelu", "yimbra", "glaffon", "hestrix"),
)
_TRAVEL = Trade(
    "travel",
    (
        ("drop_flight", 0.36, Matcher("cancel", "flight"), (), ()),
        ("fare_back", 0.14, Matcher("refund", "flight"), (Matcher("dispute", "flight"),), ()),
        ("move_flight", 0.12, Matcher("change", "flight"), (), ()),
        ("drop_room", 0.09, Matcher("cancel", "hotel_booking"), (), (Matcher(circumstance="ill"),)),
        (
            "sick_traveller",
            0.06,
            Matcher("cancel", "hotel_booking", "ill"),
            (Matcher("verify", "insurance"),),
            (),
        ),
        ("room_refund", 0.08, Matcher("refund", "hotel_booking"), (), ()),
        ("move_room", 0.07, Matcher("change", "hotel_booking"), (Matcher("upgrade", "hotel_booking"),), ()),
        ("bags", 0.08, Matcher("track", "luggage"), (Matcher("lost", "luggage"),), ()),
    ),
    "flight",
    ("jorvalo", "klimbu", "mirquo", "nubreki", "pavondo", "quilbra"),
)
TRADES = (_SHOP, _BANK, _TRAVEL)
_HANDBOOK = (
    "{product} is the name of a product; what a customer has of it is their {kind}.",
    "when a customer writes about their {product}, they mean their {kind}.",
    "a {product} is one kind of {kind}. treat it as you treat any {kind}.",
    "to change or to cancel a {product} is to change or to cancel the {kind}.",
    "customers call their {kind} by its name: {product}.",
)
_DEMO_NONE_SHARE = 0.06
_DEMO_NAMED = 0.9  # no definition explains a product's name, only labels do
_DEMO_SIZES = {Split.train: 400, Split.validation: 60, Split.calibration: 60, Split.test: 240}


def demo_tenant(seed: int = 0, trade: int = 0) -> DemoTenant:
    """A tenant that is hard for the starter: near misses, deciding excludes, imbalance, and names of products.

    trade: index in TRADES; no two of them share a category or a product's name.
    """
    deals = TRADES[trade]
    rng = random.Random(f"demo-{seed}-{deals.name}" if trade else f"demo-{seed}")
    rules = []
    for key, _, definition, includes, excludes in deals.rules:
        wording = {m: m.wording(rng) for m in (definition, *includes, *excludes)}
        rules.append(Rule(key, definition, includes, excludes, wording))
    categories = tuple(
        Category(
            key=rule.key,
            name=rule.key.replace("_", " "),
            definition=rule.wording[rule.definition],
            includes=tuple(rule.wording[m] for m in rule.includes),
            excludes=tuple(rule.wording[m] for m in rule.excludes),
        )
        for rule in rules
    )
    schema = CategorySchema(name=deals.name, none_of_these=True, categories=categories)
    shares = [share for _, share, *_ in deals.rules]
    examples = []
    for split, size in _DEMO_SIZES.items():
        for number in range(size):
            none = rng.random() < _DEMO_NONE_SHARE
            rule = None if none else rng.choices(rules, shares)[0]
            examples.append(_demo_example(rng, deals, rules, rule, f"{split.value}-{number}", split))
    return DemoTenant(schema, [example.conversation for example in examples], tuple(examples))


def expert_traces(tenant: DemoTenant, codes: tuple[str, ...], seed: int) -> list[dict[str, Any]]:
    """Rows of a traces.jsonl: what somebody who knows the world writes of every training conversation.

    codes: the pool to draw from. In a study this stands where a business would ask a much larger model.
    """
    rng = random.Random(f"expert-{seed}")
    schema, rows = tenant.category_schema, []
    for example in tenant.examples:
        if example.conversation.split is not Split.train:
            continue
        drawn = tuple(rng.sample(codes, len(schema.answers)))
        prompt = render(schema, example.conversation, drawn)
        text = reasoning(example, schema, drawn)
        category = example.conversation.category
        rows.append(
            Trace(example.conversation.id, prompt.messages, text, drawn, category, "expert", 0).as_row()
        )
    return rows


_GENERAL = (
    "Say in one sentence what the customer wants.",
    "Write the customer's last message in other words.",
    "Which product or service does the customer speak of?",
    "Reply to the customer in one friendly sentence.",
    "Is the customer annoyed? Answer yes or no, and say why.",
    "Give this conversation a title of at most five words.",
    "Translate the customer's last message into French.",
    "List the facts that the customer mentions.",
)


def general_prompts(count: int, seed: int) -> list[dict[str, Any]]:
    """Rows of a file of prompts that are no tenant's. None of them asks for a category, as retention's questions do:
    who practises those has not kept what it could, but learned it again."""
    rng, rows = random.Random(f"general-{seed}"), list[dict[str, Any]]()
    while len(rows) < count:
        conversation = sample_problem(rng, rng.randint(4, 8), 1).examples[0].conversation
        asked = f"{render_conversation(conversation)}\n{rng.choice(_GENERAL)}"
        rows.append({"messages": [{"role": "user", "content": asked}]})
    return rows


def handbook(count: int, seed: int, trade: int = 0) -> list[dict[str, Any]]:
    """Rows of a file of texts: what a demo tenant's staff are told of its products, which no definition says."""
    deals, rng = TRADES[trade], random.Random(f"handbook-{seed}-{trade}")
    kinds = OBJECTS[deals.named].defined
    return [
        {"text": rng.choice(_HANDBOOK).format(product=rng.choice(deals.products), kind=rng.choice(kinds))}
        for _ in range(count)
    ]


def _demo_example(
    rng: random.Random, deals: Trade, rules: list[Rule], rule: Rule | None, name: str, split: Split
) -> ProblemExample:
    while True:
        like = (
            rng.choice((rule.definition, rule.definition, rule.definition, *rule.includes))
            if rule
            else Matcher()
        )
        issue = random_issue(rng, like, held=False)
        verdict = decide(rules, issue)
        if verdict is None or verdict.key != (rule.key if rule else None):
            continue
        named = issue.object == deals.named and rng.random() < _DEMO_NAMED
        noun = rng.choice(deals.products) if named else None
        earlier = random_issue(rng, rng.choice(rules).definition, held=False) if rng.random() < 0.15 else None
        told = tell(issue, rng, noun=noun, earlier=earlier)
        decided = rule and verdict.decider in [rule.wording[include] for include in rule.includes]
        conversation = Conversation(
            id=name,
            messages=told.messages,
            category=verdict.key,
            criterion=verdict.decider if decided else None,
            split=split,
        )
        return ProblemExample(conversation, told.quotes, issue.gist, verdict)


BenchKind = Literal["unseen_pairs", "permuted_names", "told_answer"]


def bench_items(kind: BenchKind, n: int, seed: int = 0) -> list[BenchItem]:
    """To measure a starter: unseen schemas of 4-8 categories and conversations with unseen action-object pairs.

    permuted_names: every name stands at another category's definition. told_answer: with jargon that nothing
    explains, for answering with the right answer in the prompt.
    """
    rng = random.Random(f"{kind}-{seed}")
    items: list[BenchItem] = []
    while len(items) < n:
        problem = sample_problem(
            rng, rng.randint(4, 8), 1, held=True, jargon=0.5 if kind == "told_answer" else 0.0
        )
        example = problem.examples[0]
        schema = rename_misleading(problem.schema, rng).schema if kind == "permuted_names" else problem.schema
        items.append(BenchItem(schema, example.conversation, example.verdict.key, example.verdict.decider))
    return items
