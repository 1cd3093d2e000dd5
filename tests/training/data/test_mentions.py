"""Responses in the prose of several models under other codes: each follows its meaning, or the text keeps its own."""

import json
import random
from itertools import permutations
from pathlib import Path

import pytest

from evaluation.contract.perturb import identity, rename_opaque, shuffle, swap
from evaluation.contract.record import Conversation, Message, Role
from evaluation.contract.render import render, render_conversation
from evaluation.contract.schema import Category, CategorySchema
from training.artifacts import StageFailed
from training.data.examples import Rendering, Trace, read_traces, retarget, taught
from training.data.mentions import AnswerContext, contradicts, counts_places, find
from training.data.trace_filter import quality_of

SCHEMA = CategorySchema(
    name="shop",
    none_of_these=True,
    categories=(
        Category(key="refund", name="Refund", definition="The customer wants money back."),
        Category(
            key="parcel",
            name="Lost parcel",
            definition="The customer asks where a parcel is.",
            excludes=("the parcel has arrived damaged",),
        ),
        Category(key="login", name="login", definition="The customer cannot sign in."),
    ),
)
SAID = "I ordered plan B of the A-series, I want to know: where is my parcel? OK"
TALK = Conversation(id="c1", messages=(Message(role=Role.customer, text=SAID),), category="parcel")
REFUND, PARCEL, LOGIN, NONE = "<refund>", "<parcel>", "<login>", "<none>"

# Every code of these is found. <…>: the code of that answer.
CLEAR = {
    "the base's": (
        'The customer says "where is my parcel". This fits <parcel> "the customer asks where a parcel is", not '
        '<refund>: "the customer wants money back". \nAnswer: <parcel>'
    ),
    "with what excludes": (
        'The customer says "where is my parcel". This fits <parcel> "the customer asks where a parcel is", and not '
        '"the parcel has arrived damaged" = not <parcel>.\nAnswer: <parcel>'
    ),
    "options": (
        "They ask for the whereabouts of an order, which matches option <parcel>. Option <refund> would need a demand "
        "for money, and categories <login> and <none> do not apply.\nAnswer: <parcel>"
    ),
    "bold": (
        "**<parcel>** is the best match: the customer wants to know where the order is. **<refund>** is wrong because "
        "no money is asked for.\n\nAnswer: <parcel>"
    ),
    "a list": (
        "- <refund>: no money is asked for\n- <parcel>: the whereabouts are asked for\n- <login>: no\n- <none>: no\n\n"
        "Answer: <parcel>"
    ),
    "brackets": "The parcel has not come (<parcel>), so `<refund>` and [<login>] are out.\nAnswer: <parcel>.",
    "curly quotes": "“where is my parcel” fits “<parcel>”, rather than <refund> or <login>.\nAnswer: <parcel>",
    "a customer's words that look like codes": (
        '"I ordered plan B of the A-series" is beside the point. "where is my parcel? OK" fits code <parcel>.\n'
        "Answer: <parcel>"
    ),
    "an abbreviation": "The order, i.e. the parcel, is missing, so this is <parcel>.\nAnswer: <parcel>",
    "other answer lines": "The parcel is meant, not money (<refund>).\n\n**Final answer:** \\boxed{<parcel>}",
    "underscores": "_<refund>_ is not it: category_<parcel>, so __<parcel>__ fits.\nAnswer: <parcel>",
    "single marks": "This is '<parcel>' and not '<refund>'. It’s <parcel>.\nAnswer: <parcel>",
    "free prose": (
        "Nobody asks for money, which rules out <refund>. Here <parcel> fits better than <login> or <none>, because "
        "the order is late.\nAnswer: <parcel>"
    ),
    "a name": "It is about the whereabouts.\nAnswer: <parcel> (Lost parcel)",
    "nothing but the answer's": "The order is missing.\nAnswer: <parcel>",
}
# A place of these may be a code or not.
DOUBTFUL = {
    "an article": ("A customer asks for a parcel, so B fits.\nAnswer: B", ("A", "B", "C", "D")),
    "a pronoun": ("I think that B fits.\nAnswer: B", ("I", "B", "C", "D")),
    "a pronoun after a noun": ("The answer I choose is B.\nAnswer: B", ("I", "B", "C", "D")),
    "an acronym": ("Without an ID nothing can be found, B fits.\nAnswer: B", ("ID", "B", "C", "D")),
    "another letter": ("The plan B says nothing, B fits.\nAnswer: B", ("A", "B", "C", "D")),
    "a compound": ("The C-class parcel is missing: B fits.\nAnswer: B", ("A", "B", "C", "D")),
    "a small letter": ("This is option b.\nAnswer: B", ("A", "B", "C", "D")),
    "a code of nobody": ("Not option Z, but option B.\nAnswer: B", ("A", "B", "C", "D")),
    "somebody else's quote": ('The rule says "B is for parcels".\nAnswer: B', ("A", "B", "C", "D")),
    "somebody else's quote in German marks": (
        "„Mein iPhone X ist weg“: B fits.\nAnswer: B",
        ("X", "B", "C", "D"),
    ),
    "somebody else's quote in single marks": (
        "'My iPhone X is lost': B fits.\nAnswer: B",
        ("X", "B", "C", "D"),
    ),
    "a thing's name": ("The iPhone X does not come, B fits.\nAnswer: B", ("X", "B", "C", "D")),
    "a stroke in a word": ("The A/C unit has not come: B fits.\nAnswer: B", ("A", "B", "C", "D")),
    "an ampersand in a word": ("Q&A is over, B fits.\nAnswer: B", ("Q", "B", "A", "D")),
    "an apostrophe in a name": ("O'Brien waits, B fits.\nAnswer: B", ("O", "B", "C", "D")),
    "a Portuguese article": ("O cliente pergunta onde: B fits.\nAnswer: B", ("O", "B", "C", "D")),
    "an initial": ("Mr. C asks where it is: B fits.\nAnswer: B", ("A", "B", "C", "D")),
    "an underscore in a name": ("The user_A is waiting: B fits.\nAnswer: B", ("A", "B", "C", "D")),
    "a noun in one word with its code": ("OptionB fits.\nAnswer: B", ("A", "B", "C", "D")),
    "a code with a number": ("Option B1 fits.\nAnswer: B", ("A", "B", "C", "D")),
    "small letters of a list": ("b) fits best; a) does not.\nAnswer: B", ("A", "B", "C", "D")),
    "a small letter in a sentence": ("Choose b because it is late.\nAnswer: B", ("A", "B", "C", "D")),
    "a wide letter": ("Ｂ fits.\nAnswer: B", ("A", "B", "C", "D")),
}


def filled(text: str, codes: tuple[str, ...]) -> str:
    for place, code in zip((REFUND, PARCEL, LOGIN, NONE), codes, strict=True):
        text = text.replace(place, code)
    return text


def trace_of(completion: str, codes: tuple[str, ...]) -> Trace:
    prompt = render(SCHEMA, TALK, codes)
    return Trace("c1", prompt.messages, completion, prompt.codes, "parcel", "test", 0)


def moved(completion: str, old: tuple[str, ...], new: tuple[str, ...]) -> str | None:
    return retarget(trace_of(completion, old), SCHEMA, Rendering(identity(SCHEMA), new).example(TALK))


@pytest.mark.parametrize("style", CLEAR)
@pytest.mark.parametrize(
    "old", [("A", "B", "C", "D"), ("B", "A", "D", "C"), ("Q", "X", "I", "U"), ("AB", "K", "ZZ", "M")]
)
def test_every_code_of_clear_prose_follows_its_meaning(style: str, old: tuple[str, ...]) -> None:
    """A letter that could be a word keeps its codes; what is moved at all is moved whole."""
    certain = (not {"A", "I"} & set(old) and max(map(len, old)) == 1) or style in (
        "the base's",
        "with what excludes",
    )
    for new in [("C", "D", "A", "B"), ("I", "J", "K", "L"), ("B", "C", "D", "A"), ("AC", "AD", "OK", "E")]:
        text = moved(filled(CLEAR[style], old), old, new)
        if text is not None or certain:
            assert text == filled(CLEAR[style], new)


@pytest.mark.parametrize("style", CLEAR)
def test_most_prose_can_be_moved_from_most_codes(style: str) -> None:
    drawn = list(permutations("ABCDEFGH", 4))[::40]
    kept = sum(moved(filled(CLEAR[style], old), old, ("W", "X", "Y", "Z")) is None for old in drawn)
    assert kept <= 0.15 * len(drawn)


@pytest.mark.parametrize("what", DOUBTFUL)
def test_prose_with_a_place_that_may_be_a_code_or_not_keeps_its_codes(what: str) -> None:
    text, codes = DOUBTFUL[what]
    example = Rendering(identity(SCHEMA), ("W", "X", "Y", "Z")).example(TALK)
    found = taught(trace_of(text, codes), SCHEMA, example)
    assert not found.moved and found.text == text
    assert found.example.prompt == render(SCHEMA, TALK, codes)
    assert found.example.gold_code == "B"


@pytest.mark.parametrize(
    "text",
    [
        "This matches option B.\nAnswer: C",
        'This fits B "the customer cannot sign in".\nAnswer: B',
        'This fits C "the customer cannot sign in".\nAnswer: B',
        "This fits A, and neither C nor D.\nAnswer: B",
        "This matches option A, not option B.\nAnswer: B",
        "Option A matches best and option B does not.\nAnswer: B",
        "The right category is C, B is wrong.\nAnswer: B",
        "I would choose A over B.\nAnswer: B",
        "Not B but C.\nAnswer: B",
        "Neither B nor C applies, so A.\nAnswer: B",
        "The best match would be C, since B needs a missing parcel.\nAnswer: B",
        'B "the customer asks where a parcel is" does not apply; C does.\nAnswer: B',
        "B (a lost parcel) can’t be meant. It's C.\nAnswer: B",
        "C clearly fits. B fails.\nAnswer: B",
        "C comes first, B second.\nAnswer: B",
        "a) fits best; b) does not.\nAnswer: B",
        "OptionA fits; OptionB does not.\nAnswer: B",
        "While B looks tempting, C is a better fit.\nAnswer: B",
        "Category B can be dismissed. Only C remains.\nAnswer: B",
        "This fits B.\nAnswer: E",
        "This fits B.",
    ],
)
def test_a_text_that_contradicts_itself_or_its_label_is_refused(text: str) -> None:
    codes = ("A", "B", "C", "D")
    context = AnswerContext(SCHEMA, codes, render_conversation(TALK))
    assert contradicts(text, context, "parcel")
    assert quality_of(text, Rendering(identity(SCHEMA), codes).example(TALK)) is None


@pytest.mark.parametrize(
    "text",
    [
        "Not C.\nAnswer: B",
        "C does not fit, and A is out.\nAnswer: B",
        'This fits A "the customer wants money back", but B comes first.\nAnswer: B',
        'The customer says "where is my parcel". This fits B "the customer asks where a parcel is"\nAnswer: B',
        "Not A but B.\nAnswer: B",
        "A and C do not apply.\nAnswer: B",
        "The parcel has not come (B), so A and [C] are out.\nAnswer: B",
        "They do not want money, so option B applies. A would need a demand for money.\nAnswer: B",
        "A fits at first sight, but they ask where the order is, hence B.\nAnswer: B",
        "One could think of A. However, no money is wanted, so this is B rather than A.\nAnswer: B",
        "A: money is not asked for. B: a parcel is asked for. So the answer is B.\nAnswer: B",
        "If it were about money, I would choose A; here it's B.\nAnswer: B",
        "Option A is about refunds and C about logins; B asks about a missing parcel and fits.\nAnswer: B",
        "They ask where it is, and that is what B describes. C is about logins.\nAnswer: B",
        "This concerns a missing parcel (category B), not a refund (category A).\nAnswer: B",
        "Does it match A? No. Does it match B? Yes, it does.\nAnswer: B",
        "It meets B's definition, and D is for everything else.\nAnswer: B",
        "I considered A and C. Neither applies. B does.\nAnswer: B",
        "They never say that they can't sign in (C) and never ask for money (A), so B.\nAnswer: B",
    ],
)
def test_a_text_that_sets_others_aside_does_not_contradict_itself(text: str) -> None:
    assert not contradicts(
        text, AnswerContext(SCHEMA, ("A", "B", "C", "D"), render_conversation(TALK)), "parcel"
    )


def test_codes_of_two_letters_contradict_each_other_as_others_do() -> None:
    context = AnswerContext(SCHEMA, ("AF", "BG", "CH", "OK"), render_conversation(TALK))
    for text in (
        "This matches AF, not BG.",
        "Not BG but AF.",
        "It is AF.",
        "I'd go with CH; BG is not quite right.",
    ):
        assert contradicts(f"{text}\nAnswer: BG", context, "parcel")
    for text in ("This matches BG, not AF.", "AF would be a refund; it must be BG.", "Is it OK? So BG."):
        assert not contradicts(f"{text}\nAnswer: BG", context, "parcel")


def test_a_contradictory_trace_is_left_out_and_counted(tmp_path: Path) -> None:
    codes = ("A", "B", "C", "D")
    texts = ("This fits B.\nAnswer: B", "This matches option C.\nAnswer: B")
    path = tmp_path / "traces.jsonl"
    rows = [json.dumps(trace_of(text, codes).as_row()) for text in texts]
    path.write_text("\n".join(rows))
    found = read_traces(path, SCHEMA)
    assert [trace.completion for trace in found.traces] == [texts[0]] and found.contradictory == 1
    path.write_text(rows[1])
    with pytest.raises(StageFailed, match="1 traces, and each contradicts itself"):
        read_traces(path, SCHEMA)


@pytest.mark.parametrize(
    "text",
    [
        'This is the category "Lost parcel": B fits.\nAnswer: B',
        "B (Lost parcel) fits.\nAnswer: B",
        "It is a case of Lost parcel, B.\nAnswer: B",
        "A parcel that is lost: B fits, and the Refund category does not.\nAnswer: B",
    ],
)
def test_prose_that_calls_a_category_by_name_is_not_moved_to_other_names(text: str) -> None:
    old, new = ("E", "B", "C", "D"), ("W", "X", "Y", "Z")
    trace = trace_of(text, old)
    assert retarget(trace, SCHEMA, Rendering(identity(SCHEMA), new).example(TALK)) is not None
    for perturbed in (rename_opaque(SCHEMA, random.Random(0)), swap(SCHEMA, "refund", "parcel")):
        assert retarget(trace, SCHEMA, Rendering(perturbed, new).example(TALK)) is None


def test_prose_that_counts_categories_is_not_moved_to_another_order() -> None:
    trace = trace_of("The second option, B, fits.\nAnswer: B", ("E", "B", "C", "D"))
    new = ("W", "X", "Y", "Z")
    assert retarget(trace, SCHEMA, Rendering(identity(SCHEMA), new).example(TALK)) is not None
    shuffled = next(
        p
        for p in (shuffle(SCHEMA, random.Random(seed)) for seed in range(20))
        if p.schema.keys[1] != "parcel"
    )
    assert retarget(trace, SCHEMA, Rendering(shuffled, new).example(TALK)) is None


@pytest.mark.parametrize(
    "text",
    [
        "The second one fits",
        "Option #2 fits",
        "This is item 2",
        "Number 2 fits",
        "I choose number two",
        "Options 2 and 3 remain",
        "the third is out, so the second",
        "It is the last of the list",
        "The former is out and the latter fits",
    ],
)
def test_a_category_that_is_called_by_its_place_is_noticed(text: str) -> None:
    context = AnswerContext(SCHEMA, ("E", "B", "C", "D"), render_conversation(TALK))
    assert counts_places(f"{text}.\nAnswer: B", context)


@pytest.mark.parametrize(
    "text",
    [
        "In the second message they ask where it is",
        "Two parcels came",
        "number 2 of his order is missing",
        "Order number 2 is late",
        "item 4711 is lost",
        "It came on the 3rd of May",
        "the last thing that they say",
        "the former employee asks",
        "At first they wanted money",
        "They wait for 2 weeks",
        "It answers 2 questions",
    ],
)
def test_what_is_counted_in_a_conversation_is_no_category(text: str) -> None:
    context = AnswerContext(SCHEMA, ("E", "B", "C", "D"), render_conversation(TALK))
    assert not counts_places(f"{text}: B.\nAnswer: B", context)


def test_a_rewritten_text_is_read_again_and_not_learned_where_it_contradicts_itself() -> None:
    """A letter that was nobody's code may be another's now: beside its condition it claims that for the other."""
    text = 'In hall K: K "the customer asks where a parcel is".\nAnswer: B'
    old = ("A", "B", "C", "D")
    assert moved(text, old, ("X", "W", "Y", "Z")) == text.replace("Answer: B", "Answer: W")
    assert moved(text, old, ("K", "W", "Y", "Z")) is None


@pytest.mark.parametrize("marks", ['""', "“”", "„“", "«»", "»«", "''", "‘’"])
def test_what_is_quoted_from_the_customer_names_no_code(marks: str) -> None:
    quote = f"{marks[0]}{SAID}{marks[1]}"
    text = f'The customer says {quote}. This fits K "the customer asks where a parcel is"\nAnswer: K'
    found = find(text, AnswerContext(SCHEMA, ("A", "K", "B", "OK"), render_conversation(TALK)))
    assert [mention.code for mention in found.mentions] == ["K", "K"] and not found.doubtful
