"""Problems to learn the task from: a schema, conversations, the right answers and the reasoning for them.

Names of categories are descriptive, opaque or misleading at random, so that only reading the definition works.
"""

import random
from typing import NamedTuple

from evaluation.contract.perturb import rename_misleading
from evaluation.contract.record import Conversation
from evaluation.contract.render import ANSWER_MARK, NONE_TEXT, condition_text
from evaluation.contract.schema import Category, CategorySchema
from training.starter.facts import HELD_PAIRS, Issue, Matcher, random_issue
from training.starter.lexicon import ACTIONS, CIRCUMSTANCES, JARGON, OBJECTS, OPAQUE_NAMES
from training.starter.talk import tell

_TRIES = 40
NONE_SHARE = 0.22  # of the examples under a schema that allows it


class Rule(NamedTuple):
    """A category as the world knows it, with the wording that its schema shows."""

    key: str
    definition: Matcher
    includes: tuple[Matcher, ...]
    excludes: tuple[Matcher, ...]
    wording: dict[Matcher, str]

    def fits(self, issue: Issue) -> Matcher | None:
        return next((m for m in (self.definition, *self.includes) if m.matches(issue)), None)

    def excluding(self, issue: Issue) -> Matcher | None:
        return next((m for m in self.excludes if m.matches(issue)), None)


class ConditionVerdict(NamedTuple):
    key: str | None
    decider: str  # the condition's text; NONE_TEXT for none of these
    set_aside: tuple[tuple[str, str, str], ...]  # (key, condition that fitted, exclude that took it away)


class ProblemExample(NamedTuple):
    conversation: Conversation
    quotes: tuple[str, ...]
    gist: str
    verdict: ConditionVerdict
    pair: tuple[str, str] | None = None  # action and object, where the world made it


class DecisionProblem(NamedTuple):
    schema: CategorySchema
    examples: list[ProblemExample]


def decide(rules: list[Rule], issue: Issue) -> ConditionVerdict | None:
    """The right answer; None where two categories claim the issue (such a conversation is not used)."""
    claims: list[tuple[Rule, Matcher]] = []
    set_aside = []
    for rule in rules:
        fitted, excluded = rule.fits(issue), rule.excluding(issue)
        if fitted and excluded:
            set_aside.append((rule.key, rule.wording[fitted], rule.wording[excluded]))
        elif fitted:
            claims.append((rule, fitted))
    if len(claims) > 1:
        return None
    if not claims:
        return ConditionVerdict(None, NONE_TEXT, tuple(set_aside))
    rule, matcher = claims[0]
    return ConditionVerdict(rule.key, rule.wording[matcher], tuple(set_aside))


def reasoning(example: ProblemExample, schema: CategorySchema, codes: tuple[str, ...]) -> str:
    """What the starter is taught to write, up to and with the answer. codes: aligned with schema.answers."""
    code_of = dict(zip(schema.answers, codes, strict=False))
    said = " and ".join(f'"{quote}"' for quote in example.quotes)
    parts = [f"The customer says {said}.", f"That means: {example.gist}."]
    parts += [
        f'This fits {code_of[key]} "{condition_text(fitted)}", but not with "{condition_text(exclude)}".'
        for key, fitted, exclude in example.verdict.set_aside
    ]
    code = code_of[example.verdict.key]
    parts.append(f'This fits {code} "{condition_text(example.verdict.decider)}"')
    return " ".join(parts) + f"{ANSWER_MARK} {code}"


def sample_problem(
    rng: random.Random,
    size: int,
    examples: int,
    *,
    held: bool = False,
    conditions: float = 0.3,
    jargon: float = 0.0,
) -> DecisionProblem:
    """size: number of categories. conditions: chance that a category has includes or excludes.

    jargon: chance that a customer uses a word for the object that nothing in the prompt explains.
    """
    while True:
        absent, *rules = _rules(rng, size + 1, held, conditions)
        allow_none = rng.random() < 0.6
        schema = _schema(rng, rules, allow_none)
        outside = absent if allow_none else None
        found = [_example(rng, rules, outside, held, jargon) for _ in range(examples * 3)]
        usable = [example for example in found if example is not None][:examples]
        if len(usable) == examples:
            return DecisionProblem(schema, usable)


def _rules(rng: random.Random, size: int, held: bool, conditions: float) -> list[Rule]:
    matchers: list[Matcher] = []
    while len(matchers) < size:
        near = rng.choice(matchers) if matchers and rng.random() < 0.45 else None
        matcher = _near_miss(rng, near) if near else _matcher(rng)
        pair = (matcher.action, matcher.object)
        if matcher in matchers or (
            None not in pair and (pair in HELD_PAIRS) != held and rng.random() < (0.7 if held else 1)
        ):
            continue
        matchers.append(matcher)
    rules = []
    for number, matcher in enumerate(matchers):
        includes, excludes = _conditions(rng, matcher, held) if rng.random() < conditions else ((), ())
        wording = {m: m.wording(rng) for m in (matcher, *includes, *excludes)}
        if len(set(wording.values())) == len(wording):
            rules.append(Rule(f"k{number}", matcher, includes, excludes, wording))
    texts = [text for rule in rules for text in rule.wording.values()]
    return (
        rules if len(rules) == size and len(set(texts)) == len(texts) else _rules(rng, size, held, conditions)
    )


def _matcher(rng: random.Random) -> Matcher:
    action, thing = rng.choice(list(ACTIONS)), rng.choice(list(OBJECTS))
    kind = rng.random()
    circumstance = (
        (rng.choice(list(CIRCUMSTANCES)), rng.random() < 0.4) if rng.random() < 0.25 else (None, False)
    )
    if kind < 0.62:
        return Matcher(action, thing, *circumstance)
    if kind < 0.77:
        return Matcher(None, thing, *circumstance)
    if kind < 0.92:
        return Matcher(action, None, *circumstance)
    return Matcher(circumstance=rng.choice(list(CIRCUMSTANCES)))


def _near_miss(rng: random.Random, near: Matcher) -> Matcher:
    """A category that shares an action, an object or a circumstance with another."""
    options = [
        near._replace(action=rng.choice(list(ACTIONS))),
        near._replace(object=rng.choice(list(OBJECTS))),
    ]
    if near.circumstance and (near.action or near.object):
        options.append(near._replace(negated=not near.negated))
    return rng.choice(options)


def _conditions(
    rng: random.Random, matcher: Matcher, held: bool
) -> tuple[tuple[Matcher, ...], tuple[Matcher, ...]]:
    includes: tuple[Matcher, ...] = ()
    excludes: tuple[Matcher, ...] = ()
    kind = rng.random()
    if kind < 0.6:
        extra = Matcher(rng.choice(list(ACTIONS)), rng.choice(list(OBJECTS)))
        if (extra[:2] in HELD_PAIRS) == held:
            includes = (extra,)
    if kind > 0.4:
        if matcher.action and not matcher.object and rng.random() < 0.5:
            excludes = (Matcher(object=rng.choice(list(OBJECTS))),)
        elif matcher.object and not matcher.action and rng.random() < 0.5:
            excludes = (Matcher(action=rng.choice(list(ACTIONS))),)
        elif not matcher.circumstance:
            excludes = (Matcher(circumstance=rng.choice(list(CIRCUMSTANCES))),)
    return includes, excludes


def _schema(rng: random.Random, rules: list[Rule], allow_none: bool) -> CategorySchema:
    opaque = rng.sample(OPAQUE_NAMES, len(rules))
    style = rng.random()
    names = [rule.definition.name for rule in rules]
    if style < 0.35 or len(set(names)) < len(names):
        names = opaque
    categories = tuple(
        Category(
            key=rule.key,
            name=name,
            definition=rule.wording[rule.definition],
            includes=tuple(rule.wording[m] for m in rule.includes),
            excludes=tuple(rule.wording[m] for m in rule.excludes),
        )
        for rule, name in zip(rules, names, strict=True)
    )
    schema = CategorySchema(name="world", none_of_these=allow_none, categories=categories)
    return rename_misleading(schema, rng).schema if style > 0.65 and len(rules) > 1 else schema


def _example(
    rng: random.Random, rules: list[Rule], outside: Rule | None, held: bool, jargon: float
) -> ProblemExample | None:
    """A conversation with exactly one right answer, or None after _TRIES.

    outside: a category that the schema leaves out, for the conversations that none of the others takes; None where
    the schema does not allow that answer.
    """
    for _ in range(_TRIES):
        rule = rng.choice(rules)
        wants_none = outside is not None and rng.random() < NONE_SHARE
        like = rng.choice((rule.definition, rule.definition, *rule.includes))
        if outside is not None and wants_none:
            near = (like._replace(action=None), like._replace(object=None))
            like = rng.choice((outside.definition, outside.definition, Matcher(), *near))
        elif rule.excludes and rng.random() < 0.3 and rule.excludes[0].circumstance:
            like = like._replace(circumstance=rule.excludes[0].circumstance, negated=False)
        try:
            issue = random_issue(rng, like, held)
        except ValueError:
            continue
        verdict = decide(rules, issue)
        if verdict is None or (verdict.key is None) != wants_none:
            continue
        earlier = random_issue(rng, Matcher(), held) if rng.random() < 0.12 else None
        noun = rng.choice(JARGON) if rng.random() < jargon else None
        told = tell(issue, rng, noun=noun, earlier=earlier)
        conversation = Conversation(
            id=f"w{rng.getrandbits(48):012x}", messages=told.messages, category=verdict.key
        )
        return ProblemExample(conversation, told.quotes, issue.gist, verdict, issue[:2])
    return None
