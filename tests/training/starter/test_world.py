"""The world must be right about itself: whatever it teaches, every model built on it believes."""

import hashlib
import json
import random
from itertools import combinations

from evaluation.contract.parse import decided_by, evidence, parse
from evaluation.contract.record import Split
from evaluation.contract.render import ANSWER_MARK, candidate_codes
from training.starter.facts import HELD_PAIRS, Issue, Matcher
from training.starter.problems import DecisionProblem, Rule, decide, reasoning, sample_problem
from training.starter.world import TRADES, bench_items, demo_tenant, general_prompts

CODES = tuple(code for code, _ in zip(candidate_codes(), range(26), strict=False))


def problems(count: int, *, held: bool = False) -> list[DecisionProblem]:
    rng = random.Random(3)
    return [sample_problem(rng, rng.randint(2, 8), 3, held=held, conditions=0.6) for _ in range(count)]


def test_the_reasoning_that_is_taught_parses_to_the_right_answer_with_true_quotes() -> None:
    for problem in problems(40):
        for example in problem.examples:
            text = reasoning(example, problem.schema, CODES)
            answer = parse(text, problem.schema, CODES)
            assert answer.failure is None
            assert answer.category == example.conversation.category == example.verdict.key
            assert {e.quote for e in evidence(answer.reasoning, example.conversation)} >= set(example.quotes)
            condition = decided_by(answer.reasoning, problem.schema, answer.category)
            assert condition is not None
            assert condition.text == example.verdict.decider


def test_pairs_held_out_for_the_benchmark_do_not_occur_in_training() -> None:
    pairs = {e.pair for problem in problems(60) for e in problem.examples}
    assert pairs
    assert not pairs & HELD_PAIRS
    assert {e.pair for problem in problems(20, held=True) for e in problem.examples} <= HELD_PAIRS


def test_an_exclude_takes_an_issue_away_and_two_claims_make_it_unusable() -> None:
    cancel, moved = Matcher("cancel", "order"), Matcher(circumstance="moved_house")
    first = Rule("first", cancel, (), (moved,), {cancel: "cancels an order", moved: "has moved"})
    second = Rule("second", moved, (), (), {moved: "anything after moving"})
    plain, after_moving = Issue("cancel", "order"), Issue("cancel", "order", ("moved_house",))
    assert decide([first, second], plain) == ("first", "cancels an order", ())
    taken = decide([first, second], after_moving)
    assert taken is not None
    assert taken.key == "second"
    assert taken.set_aside == (("first", "cancels an order", "has moved"),)
    assert decide([first._replace(excludes=()), second], after_moving) is None


def test_the_demo_tenant_and_the_benchmark_are_the_same_every_time() -> None:
    first, again = demo_tenant(), demo_tenant()
    assert first == again
    assert demo_tenant(seed=1) != first
    assert sum(c.split is Split.train for c in first.conversations) == 400
    assert all(c.category in first.category_schema.answers for c in first.conversations)
    assert bench_items("permuted_names", 5) == bench_items("permuted_names", 5)
    assert all(4 <= len(item.schema.categories) <= 8 for item in bench_items("unseen_pairs", 30))


def test_the_first_tenant_stays_the_one_that_published_figures_are_about() -> None:
    tenant = demo_tenant(0)
    told = [[c.id, c.split, c.category, [[m.role, m.text] for m in c.messages]] for c in tenant.conversations]
    content = tenant.category_schema.model_dump_json(exclude_none=True) + json.dumps(told)
    assert hashlib.sha256(content.encode()).hexdigest().startswith("7026b37b7621bcc4")


def test_tenants_of_different_trades_are_different_tasks() -> None:
    tenants = [demo_tenant(0, trade) for trade in range(len(TRADES))]
    for (one, here), (other, there) in combinations(zip(tenants, TRADES, strict=True), 2):
        assert not set(one.category_schema.keys) & set(other.category_schema.keys)
        assert not set(here.products) & set(there.products)
    for tenant, trade in zip(tenants, TRADES, strict=True):
        definitions = [c.definition for c in tenant.category_schema.categories]
        assert len(set(definitions)) == len(definitions)
        texts = [" ".join(m.text.lower() for m in c.messages) for c in tenant.conversations]
        named = sum(any(product in text for product in trade.products) for text in texts) / len(texts)
        assert 0.4 < named < 0.6
        test = [c.category for c in tenant.conversations if c.split is Split.test]
        assert all(test.count(answer) >= 5 for answer in tenant.category_schema.answers)


def test_where_none_of_these_is_allowed_a_fifth_of_the_conversations_is_that() -> None:
    open_ended = [p for p in problems(300) if p.schema.none_of_these]
    keys = [example.verdict.key for problem in open_ended for example in problem.examples]
    assert 0.16 < keys.count(None) / len(keys) < 0.28
    assert all(e.verdict.key for p in problems(100) if not p.schema.none_of_these for e in p.examples)


def test_the_answer_is_the_last_line() -> None:
    problem = problems(1)[0]
    text = reasoning(problem.examples[0], problem.schema, CODES)
    assert text.count(ANSWER_MARK) == 1


def test_general_prompts_ask_for_no_category() -> None:
    """Retention is measured by such questions, and practising them would not be keeping it."""
    rows = general_prompts(40, seed=0)
    assert rows == general_prompts(40, seed=0) and len({row["messages"][0]["content"] for row in rows}) == 40
    for row in rows:
        (message,) = row["messages"]
        assert message["role"] == "user" and message["content"].startswith("<conversation>")
        assert "categor" not in message["content"] and "Answer:" not in message["content"]
