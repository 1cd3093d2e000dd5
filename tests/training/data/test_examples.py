import json
import random
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from evaluation.contract.parse import decided_by, parse
from evaluation.contract.perturb import identity, swap
from evaluation.contract.render import render
from evaluation.contract.schema import CategorySchema
from tests.training.shop import Tenant, response
from training.artifacts import StageFailed
from training.data.examples import (
    Example,
    balanced,
    balanced_choice,
    choice,
    drawn,
    hint_for,
    make_example,
    read_labelled,
    read_traces,
    retarget,
)
from training.data.trace_filter import Quality, quality_of
from training.engine.model import Loaded, code_pool, load_writer, prompt_tokens
from training.generation.prefix.rows import IGNORED, row_of
from training.stages.sft import tokenise
from training.stages.traces import TeacherResponses, select
from training.teachers.privileged import HintKind, with_hint

POOL = ("A", "B", "C", "D", "E", "F", "G")


def example_of(tenant: Tenant, number: int, perturb: bool = False, seed: int = 0) -> Example:
    return make_example(tenant.conversations[number], tenant.schema, POOL, random.Random(seed), perturb)


def test_codes_are_drawn_anew_for_every_example(tenant: Tenant) -> None:
    drawn = {example_of(tenant, 0, seed=seed).prompt.codes for seed in range(20)}
    assert len(drawn) > 15


def test_the_gold_code_is_the_one_the_prompt_shows_for_the_gold_meaning(tenant: Tenant) -> None:
    for seed in range(40):
        example = example_of(tenant, seed % 18, perturb=True, seed=seed)
        key = tenant.conversations[seed % 18].category
        if key is None:
            continue
        definition = tenant.schema.category(key).definition.removesuffix(".")
        shown = definition[0].lower() + definition[1:]
        assert f'"{shown}" = {example.gold_code}' in example.prompt.messages[0]["content"]


def test_balanced_sampling_shows_a_rare_category_as_often_as_a_common_one(tenant: Tenant) -> None:
    rare = [c for c in tenant.conversations if c.category == "login"][:1]
    common = [c for c in tenant.conversations if c.category == "refund"]
    drawn = list(islice(balanced(rare + common, random.Random(0)), 20))
    assert Counter(c.category for c in drawn) == {"login": 10, "refund": 10}
    assert len({c.id for c in drawn if c.category == "refund"}) == len(common)


def test_without_balance_the_shares_of_the_labels_stay(tenant: Tenant) -> None:
    rare = [c for c in tenant.conversations if c.category == "login"][:1]
    common = [c for c in tenant.conversations if c.category == "refund"][:3]
    shown = list(islice(drawn(rare + common, False, random.Random(0)), 8))
    assert Counter(c.category for c in shown) == {"login": 2, "refund": 6}
    assert Counter(c.id for c in shown) == dict.fromkeys((c.id for c in rare + common), 2)
    assert Counter(c.category for c in choice(rare + common, 4, False, random.Random(0))) == {
        "login": 1,
        "refund": 3,
    }
    most = [choice(rare + common * 5, 4, False, random.Random(seed)) for seed in range(20)]
    assert sum(c.category == "refund" for of in most for c in of) > 60  # balance would show 40 of 80


def test_a_limit_takes_turns_between_categories(tenant: Tenant) -> None:
    chosen = balanced_choice(tenant.conversations, 8, random.Random(0))
    assert Counter(c.category for c in chosen) == {None: 2, "refund": 2, "login": 2, "delivery": 2}
    assert len({c.id for c in chosen}) == 8


@pytest.mark.parametrize("seed", range(30))
def test_a_trace_moved_to_a_perturbed_schema_is_still_a_right_answer(
    seed: int, tenant: Tenant, traces: Path
) -> None:
    trace = read_traces(traces, tenant.schema).traces[seed % len(tenant.conversations)]
    example = example_of(tenant, seed % len(tenant.conversations), perturb=True, seed=seed)
    text = retarget(trace, tenant.schema, example)
    answer = parse(text, example.schema, example.prompt.codes)
    assert answer.failure is None and answer.category == example.gold
    assert decided_by(answer.reasoning, example.schema, example.gold) is not None
    assert quality_of(text, example) is Quality.full


def test_moving_a_trace_also_moves_the_codes_of_excludes(tenant: Tenant, traces: Path) -> None:
    trace = read_traces(traces, tenant.schema).traces[0]
    text = f'Not "x", because "y" = not {trace.codes[1]}. {trace.completion}'
    perturbed = swap(tenant.schema, "refund", "delivery")
    prompt = render(perturbed.schema, tenant.conversations[0], ("P", "Q", "R", "S"))
    moved = retarget(
        trace._replace(completion=text),
        tenant.schema,
        Example(tenant.conversations[0], perturbed, prompt, perturbed.gold("refund")),
    )
    # What was said of delivery is now the meaning of the key `refund`, whose code is P.
    assert '"y" = not P.' in moved
    assert moved.endswith("Answer: Q")


def test_traces_of_another_schema_are_refused(tenant: Tenant, traces: Path) -> None:
    other = CategorySchema(categories=tenant.schema.categories[:1])
    with pytest.raises(StageFailed, match="not one of this schema"):
        read_traces(traces, other)


def test_conversations_without_a_label_of_the_schema_are_counted(tenant: Tenant, tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    rows = [
        {"id": "a", "messages": [{"role": "customer", "text": "hi"}], "category": "refund"},
        {"id": "b", "messages": [{"role": "customer", "text": "hi"}]},
        {"id": "c", "messages": [{"role": "customer", "text": "hi"}], "category": "unheard of"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_labelled(path, tenant.schema)
    assert ([c.id for c in found.conversations], found.rejected, found.unlabelled) == (["a"], 1, 1)
    path.write_text(json.dumps(rows[2]))
    with pytest.raises(StageFailed, match="unheard of"):
        read_labelled(path, tenant.schema)


def test_the_last_label_token_is_learned_and_the_prompt_is_not(tenant: Tenant, base: Path) -> None:
    loaded = Loaded(*load_writer(str(base), None, 0))
    tokenizer = loaded.tokenizer
    example = make_example(
        tenant.conversations[0], tenant.schema, code_pool(tokenizer, 4), random.Random(0), False
    )
    text = response(example.conversation, tenant.schema, example.prompt.codes)
    row = row_of([tokenise(loaded, example.prompt.messages, text)])
    code = tokenizer(f"\nAnswer: {example.gold_code}", add_special_tokens=False)["input_ids"][-1]
    assert row.labels[-2:] == [code, tokenizer.eos_token_id]
    prompt = prompt_tokens(tokenizer, example.prompt.messages)
    assert row.input_ids[: len(prompt)] == prompt
    assert row.labels[: len(prompt)] == [IGNORED] * len(prompt)
    assert row.labels[len(prompt) :] == row.input_ids[len(prompt) :]


def test_a_prompt_with_its_answer_is_tokenised_as_the_whole_chat_is(tenant: Tenant, base: Path) -> None:
    """Serving makes tokens of the prompt alone; the template of the whole chat must begin with the same."""
    loaded = Loaded(*load_writer(str(base), None, 0))
    example = example_of(tenant, 3)
    text = response(example.conversation, tenant.schema, example.prompt.codes)
    whole = loaded.tokenizer.apply_chat_template(
        [*example.prompt.messages, {"role": "assistant", "content": text}], tokenize=True, return_dict=True
    )["input_ids"]
    prompt, completion = tokenise(loaded, example.prompt.messages, text)
    assert whole[: len(prompt) + len(completion)] == prompt + completion


def test_a_sequence_that_does_not_fit_is_refused_and_not_cut(tenant: Tenant, base: Path) -> None:
    loaded = Loaded(*load_writer(str(base), None, 0))
    loaded.model.config.max_position_embeddings = 64
    with pytest.raises(StageFailed, match="context of 64; shorten"):
        tokenise(loaded, example_of(tenant, 0).prompt.messages, "x")


def test_of_right_answers_the_best_justified_one_is_kept(tenant: Tenant) -> None:
    example = example_of(tenant, 0)
    code, quote = example.gold_code, example.conversation.messages[0].text
    condition = "the customer wants their money back"
    guess = f"Surely.\nAnswer: {code}"
    quoted = f'They say "{quote}".\nAnswer: {code}'
    named = f'This fits {code} "{condition}"\nAnswer: {code}'
    full = f'They say "{quote}". This fits {code} "{condition}"\nAnswer: {code}'
    wrong = full.replace(f"Answer: {code}", "Answer: Z")
    kept = select(TeacherResponses(example, [wrong, guess, quoted, named, full, full], 0, 0), "self")
    assert kept is not None
    assert (kept.quality, kept.trace.attempt, kept.trace.completion) == (Quality.full, 4, full)
    assert select(TeacherResponses(example, [quoted, named], 0, 0), "self").quality is Quality.condition  # type: ignore[union-attr]
    assert select(TeacherResponses(example, [guess, wrong], 0, 0), "self") is None


def test_a_kept_prompt_holds_no_hint(tenant: Tenant) -> None:
    example = example_of(tenant, 0)
    hinted = with_hint(example.prompt, hint_for(example, HintKind.criterion))
    assert hinted[1]["content"].endswith(
        f'\nThe right answer is {example.gold_code}, because of "the customer wants their money back".'
    )
    full = response(example.conversation, tenant.schema, example.prompt.codes)
    kept = select(TeacherResponses(example, [full], 0, 0), "self")
    assert kept is not None
    assert kept.trace.prompt == render(tenant.schema, example.conversation, example.prompt.codes).messages
    assert "The right answer" not in json.dumps(kept.trace.as_row())


def test_where_an_include_may_have_decided_the_hint_does_not_claim_that_the_definition_did(
    tenant: Tenant,
) -> None:
    first, *others = tenant.schema.categories
    excluding = first.model_copy(update={"excludes": ("the customer is a business",)})
    including = first.model_copy(update={"includes": ("the customer reports a double charge",)})
    for category, claimed in ((excluding, True), (including, False)):
        schema = tenant.schema.model_copy(update={"categories": (category, *others)})
        example = make_example(tenant.conversations[0], schema, POOL, random.Random(0), perturb=False)
        text = with_hint(example.prompt, hint_for(example, HintKind.criterion))[1]["content"]
        assert ("because of" in text) is claimed
        assert text.endswith(f"The right answer is {example.gold_code}.") is not claimed


def test_none_of_these_has_a_hint_of_its_own(tenant: Tenant) -> None:
    number = next(n for n, c in enumerate(tenant.conversations) if c.category is None)
    example = example_of(tenant, number)
    assert example.perturbed == identity(tenant.schema)
    text = with_hint(example.prompt, hint_for(example, HintKind.criterion))[1]["content"]
    assert text.endswith(f'The right answer is {example.gold_code}, because of "none of these".')


def test_a_condition_that_is_known_to_have_decided_is_the_hint(tenant: Tenant) -> None:
    first, *others = tenant.schema.categories
    including = first.model_copy(update={"includes": ("the customer reports a double charge",)})
    schema = tenant.schema.model_copy(update={"categories": (including, *others)})
    conversation = tenant.conversations[0].model_copy(update={"criterion": including.includes[0]})
    example = make_example(conversation, schema, POOL, random.Random(0), perturb=False)
    text = with_hint(example.prompt, hint_for(example, HintKind.criterion))[1]["content"]
    assert text.endswith(f'is {example.gold_code}, because of "the customer reports a double charge".')
