"""A sentence encoder is heard where a base wants it, where that chooses a code, and nowhere else."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from app.serving.base import STARTER, find_base
from evaluation import sentence_encoder
from evaluation.contract.base_note import ADAPTER_LIKENESS, NOTE
from evaluation.contract.mode import Mode
from evaluation.contract.parse import choice_at
from evaluation.contract.perturb import swap
from evaluation.contract.record import conversation_from_text
from evaluation.contract.render import CodesError, render
from evaluation.contract.schema import Category, CategorySchema
from evaluation.inference import likeness as reading
from evaluation.inference.likeness import Likeness, weighed
from evaluation.inference.predictor import Prediction
from evaluation.inference.tokenizer_files import Codes, load_codes
from tests.evaluation.fake_server import CODES, Asked, FakeServer, Reply, predictor
from training.base import package
from training.base.likeness import LikenessNetwork

SCHEMA = CategorySchema(
    name="shop",
    none_of_these=True,
    categories=(
        Category(key="late", name="Late", definition="The customer asks where a parcel is."),
        Category(key="refund", name="Refund", definition="The customer wants their money back."),
        Category(
            key="broken",
            name="Broken",
            definition="Something does not work.",
            includes=("the glass of a lamp is cracked",),
        ),
    ),
)
EVEN = {None: 0.1, "late": 0.3, "refund": 0.3, "broken": 0.3}  # what a model that knows nothing says


SHIPPED = Likeness(1.0, package.likeness_file())


def heard(text: str, schema: CategorySchema = SCHEMA) -> dict[str | None, float]:
    even = {answer: EVEN.get(answer, 0.3) for answer in schema.answers}
    return anyio.run(weighed, even, schema, conversation_from_text(text), SHIPPED)


def test_a_definition_or_an_include_that_is_meant_is_the_answer_and_what_nothing_describes_is_none() -> None:
    found = heard("my package has not come yet, where is it?")
    assert max(found, key=found.__getitem__) == "late"
    found = heard("the lampshade came with a crack in the glass")
    assert max(found, key=found.__getitem__) == "broken"
    assert sum(found.values()) == pytest.approx(1.0)
    found = heard("do you hire students for the summer?")
    assert max(found, key=found.__getitem__) is None


@pytest.mark.parametrize(
    ("weight", "of_base", "of_encoder"), [(3.0, 1 / 3, 1.0), (1.0, 1.0, 1.0), (0.5, 1.0, 0.5)]
)
def test_the_stronger_of_the_two_counts_once_so_that_neither_is_surer_than_it_was(
    weight: float, of_base: float, of_encoder: float
) -> None:
    conversation = conversation_from_text("my package has not come yet, where is it?")
    shares: dict[str | None, float] = {"late": 0.1, "refund": 0.7, "broken": 0.1, None: 0.05}
    encoder = heard(conversation.said[0])
    found = anyio.run(weighed, shares, SCHEMA, conversation, SHIPPED._replace(weight=weight))
    assert sum(found.values()) == pytest.approx(0.95)  # what lies beside the answers stays there
    for answer in ("refund", "broken"):
        expected = (shares["late"] / shares[answer]) ** of_base
        even = encoder["late"] / encoder[answer]
        assert found["late"] / found[answer] == pytest.approx(expected * even**of_encoder, rel=1e-3)


def test_an_edit_is_followed_and_a_name_says_nothing() -> None:
    text = "my package has not come yet, where is it?"
    swapped = heard(text, swap(SCHEMA, "late", "refund").schema)
    assert max(swapped, key=swapped.__getitem__) == "refund"
    renamed = [one.model_copy(update={"name": f"X{n}"}) for n, one in enumerate(SCHEMA.categories)]
    assert heard(text, SCHEMA.model_copy(update={"categories": tuple(renamed)})) == heard(text)


def test_an_exclude_takes_away_what_is_more_alike_to_it_than_to_what_includes() -> None:
    text = "my parcel is lost"
    late, *others = SCHEMA.categories
    vague = late.model_copy(update={"definition": "Anything about an order."})
    without = vague.model_copy(update={"excludes": ("the parcel is lost",)})
    before = heard(text, SCHEMA.model_copy(update={"categories": (vague, *others)}))
    after = heard(text, SCHEMA.model_copy(update={"categories": (without, *others)}))
    assert after["late"] < before["late"] / 10 and after["refund"] > before["refund"]


NUMBER = "number seven on the list, as on monday"
SMALL_TALK = "say hello to the lady in the shop"


@pytest.fixture(scope="module")
def with_examples(tmp_path_factory: pytest.TempPathFactory) -> Likeness:
    """A tenant's copy: the number was decided by the include of `broken`, the small talk by nothing."""
    file = tmp_path_factory.mktemp("copy") / ADAPTER_LIKENESS
    network = LikenessNetwork.trained(SHIPPED.file)
    labelled = [
        conversation_from_text(NUMBER).model_copy(
            update={"category": "broken", "criterion": "the glass of a lamp is cracked"}
        ),
        conversation_from_text(SMALL_TALK).model_copy(update={"category": None}),
        conversation_from_text("where does my parcel hang about").model_copy(update={"category": "late"}),
    ]
    network.save(file, network.examples(SCHEMA, labelled))
    return Likeness(1.0, file)


def shares(text: str, schema: CategorySchema, likeness: Likeness) -> dict[str | None, float]:
    even = dict.fromkeys(schema.answers, 1 / len(schema.answers))
    return anyio.run(weighed, even, schema, conversation_from_text(text), likeness)


def likeliest(text: str, schema: CategorySchema, likeness: Likeness) -> str | None:
    found = shares(text, schema, likeness)
    assert sum(found.values()) == pytest.approx(1.0)
    return max(found, key=found.__getitem__)


def test_a_labelled_conversation_speaks_for_the_condition_that_decided_it_wherever_that_goes(
    with_examples: Likeness,
) -> None:
    late, refund, broken = SCHEMA.categories
    asked = "number seven of the list as on monday"
    assert likeliest(asked, SCHEMA, SHIPPED) != "broken"
    assert likeliest(asked, SCHEMA, with_examples) == "broken"
    assert likeliest(asked, swap(SCHEMA, "late", "broken").schema, with_examples) == "late"
    moved = (
        late,
        refund.model_copy(update={"includes": broken.includes}),
        broken.model_copy(update={"includes": ()}),
    )
    assert likeliest(asked, SCHEMA.model_copy(update={"categories": moved}), with_examples) == "refund"
    spaced = broken.model_copy(update={"includes": ("the  glass of a lamp\nis cracked",)})
    assert (
        likeliest(asked, SCHEMA.model_copy(update={"categories": (late, refund, spaced)}), with_examples)
        == "broken"
    )


def test_an_example_is_silent_where_its_condition_is_gone_or_says_something_else(
    with_examples: Likeness,
) -> None:
    late, refund, broken = SCHEMA.categories
    asked = "number seven of the list as on monday"
    bare = broken.model_copy(update={"includes": ()})
    other = broken.model_copy(update={"includes": ("the glass of a lamp is whole",)})
    merged = Category(key="bad", name="Bad", definition="Something is broken, or the money is asked for.")
    for categories in ((late, refund, bare), (late, refund, other), (late, merged)):
        schema = SCHEMA.model_copy(update={"categories": categories})
        with_them, without = (shares(asked, schema, one) for one in (with_examples, SHIPPED))
        last = categories[-1].key
        assert with_them[last] <= without[last]


def test_what_a_category_had_is_none_of_these_when_it_is_taken_away(with_examples: Likeness) -> None:
    asked = "where does my parcel hang about?"
    left = SCHEMA.model_copy(update={"categories": SCHEMA.categories[1:]})
    with_them, without = (shares(asked, left, one) for one in (with_examples, SHIPPED))
    assert with_them[None] / with_them["broken"] > 10 * without[None] / without["broken"]
    forced = left.model_copy(update={"none_of_these": False})
    assert set(shares(asked, forced, with_examples)) == {"refund", "broken"}


def test_what_was_none_of_these_is_so_again(with_examples: Likeness) -> None:
    everything = Category(key="shop", name="Shop", definition="Greetings to the people in the shop.")
    schema = SCHEMA.model_copy(update={"categories": (*SCHEMA.categories, everything)})
    assert likeliest("say hello to the ladies in the shop", schema, SHIPPED) == "shop"
    assert likeliest("say hello to the ladies in the shop", schema, with_examples) is None


def test_where_the_schema_asks_a_question_or_has_one_category_there_is_nothing_to_compare() -> None:
    assert SCHEMA.describes_texts
    assert not SCHEMA.model_copy(update={"question": "Is the customer angry?"}).describes_texts
    assert not SCHEMA.model_copy(update={"categories": SCHEMA.categories[:1]}).describes_texts


def test_each_part_of_a_definition_that_semicolons_divide_may_be_what_is_meant() -> None:
    late, refund, broken = SCHEMA.categories
    both = f"either {late.definition}; or {refund.definition}"
    either = Category(key="either", name="Either", definition=both)
    assert either.clauses == (both, f"either {late.definition}", f"or {refund.definition}")
    assert broken.clauses == broken.described == (broken.definition, *broken.includes)
    merged = SCHEMA.model_copy(update={"categories": (either, broken)})
    for text in ("my package has not come yet, where is it?", "i want my money back, please"):
        found = heard(text, merged)
        assert max(found, key=found.__getitem__) == "either"


def test_an_adapter_brings_the_encoder_that_was_trained_with_it(tmp_path: Path) -> None:
    hearing = Codes(("A", "B"), (1, 2), likeness=SHIPPED)
    assert hearing.beside(None) is hearing and hearing.beside(tmp_path) is hearing
    shutil.copyfile(package.likeness_file(), tmp_path / ADAPTER_LIKENESS)
    assert hearing.beside(tmp_path).likeness == Likeness(1.0, tmp_path / ADAPTER_LIKENESS)
    deaf = hearing.alone()
    assert deaf.beside(tmp_path) is deaf  # another base, which nobody has tried with an encoder


def test_copies_of_an_encoder_are_one_and_another_in_its_place_is_another(tmp_path: Path) -> None:
    first, second = tmp_path / "sft", tmp_path / "rl"
    for file in (first, second):
        shutil.copyfile(package.likeness_file(), file)
    read = reading._trained(first)
    assert reading._trained(second) is read
    tensors = load_file(second)
    save_file(tensors | {"none": np.array(tensors["none"] + 1)}, second)
    assert reading._trained(second) is not read and reading._trained(first) is read


def undecided(asked: Asked) -> Reply:
    """A model to which all is one, but for the first category, which it likes a little more."""
    codes = [option.code for option in asked.options]
    return Reply(f"Because.\nAnswer: {codes[0]}", {code: 0.31 - 0.01 * n for n, code in enumerate(codes)})


@pytest.mark.parametrize(
    ("mode", "likeness", "answer"),
    [(Mode.fast, SHIPPED, "refund"), (Mode.fast, None, "late"), (Mode.reasoned, SHIPPED, "late")],
)
def test_an_answer_at_once_hears_it_and_one_that_names_no_choice_does_not(
    mode: Mode, likeness: Likeness | None, answer: str
) -> None:
    schema = SCHEMA.model_copy(update={"none_of_these": False})
    server = FakeServer(undecided)
    asked = predictor(server, mode=mode, codes=CODES._replace(likeness=likeness))

    async def run() -> Prediction:
        return await asked.predict(schema, conversation_from_text("i want my money back please"))

    found = anyio.run(run)
    assert found.category == answer and found.probabilities is not None
    assert found.confidence == found.probabilities[answer]
    assert sum(found.probabilities.values()) == pytest.approx(1.0)


class SecondThoughts(FakeServer):
    """It quotes, chooses the first category, and writes whatever is begun for it to its end. stubborn: with the first
    category all the same."""

    stubborn = False

    def __init__(self) -> None:
        super().__init__(self.first)

    def first(self, asked: Asked) -> Reply:
        code = asked.options[0].code
        even = {option.code: 0.31 - 0.01 * n for n, option in enumerate(asked.options)}
        said = f'The customer says "{asked.customer}". This fits {code} "{asked.options[0].definition}".'
        return Reply(f"{said}\nAnswer: {code}", even)

    def respond(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if not body.get("continue_final_message"):
            return super().respond(body)
        self.bodies.append(body)
        begun = body["messages"][-1]["content"]
        code = "A" if self.stubborn else begun[-3]
        text = f'its condition".\nAnswer: {code}'
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return 200, {"choices": [choice], "usage": {"prompt_tokens": 50, "completion_tokens": 6}}


def second_thoughts(text: str, server: SecondThoughts) -> tuple[list[str], Prediction]:
    asked = predictor(server, codes=CODES._replace(likeness=SHIPPED))
    conversation = conversation_from_text(text)
    schema = SCHEMA.model_copy(update={"none_of_these": False})

    async def run() -> tuple[list[str], Prediction]:
        whole = await asked.predict(schema, conversation)
        pieces = [piece async for piece in asked.stream(schema, conversation)]
        assert isinstance(pieces[-1], Prediction)
        assert pieces[-1].model_copy(update={"latency_s": whole.latency_s}) == whole
        return [piece for piece in pieces if isinstance(piece, str)], whole

    return anyio.run(run)


def test_where_it_hears_another_choice_the_reasons_are_written_again_from_there() -> None:
    server = SecondThoughts()
    pieces, found = second_thoughts("i want my money back please", server)
    begun = 'The customer says "i want my money back please". This fits B "'
    assert server.bodies[1]["messages"][-1]["content"] == begun
    assert found.category == "refund" and found.reasoning == f'{begun}its condition".'
    assert [quote.quote for quote in found.evidence or ()] == ["i want my money back please"]
    assert found.probabilities is not None and found.confidence == found.probabilities["refund"]
    assert found.completion_tokens is not None and not found.forced_read
    assert "".join(pieces) == found.reasoning


def test_what_the_customer_says_chooses_nothing() -> None:
    for said in ("This fits C too, but i want my money back", "This fits too small, i want my money back"):
        server = SecondThoughts()
        pieces, found = second_thoughts(said, server)
        begun = f'The customer says "{said}". This fits B "'
        assert server.bodies[1]["messages"][-1]["content"] == begun
        assert found.category == "refund"
        assert "".join(pieces) == found.reasoning


@pytest.mark.parametrize(
    ("reasoning", "code"),
    [
        ('The customer says "This fits C too". This fits B "what decides".', "B"),
        ('This fits C "what decides", not B: "This fits B".', "C"),
        ('The customer says "This fits C too".', None),
        ('The customer says "it broke". This fits nothing here, so this fits C.', None),
        ('The customer says "it broke". This fits', None),
    ],
)
def test_the_code_that_first_fits_is_chosen_outside_of_quotations(reasoning: str, code: str | None) -> None:
    place = choice_at(reasoning, ("A", "B", "C"))
    assert (None if place is None else reasoning[place]) == code


def test_an_answer_that_is_written_again_is_no_longer_than_one() -> None:
    server = SecondThoughts()
    second_thoughts("i want my money back please", server)
    quoted = 'The customer says "i want my money back please".'
    kept = len(re.findall(r" ?\w+|\W", quoted))
    assert server.bodies[1]["max_tokens"] == server.bodies[0]["max_tokens"] - kept


def test_a_schema_that_asks_a_question_of_its_own_is_answered_by_the_model_alone() -> None:
    server = SecondThoughts()
    asked = predictor(server, codes=CODES._replace(likeness=SHIPPED))
    schema = SCHEMA.model_copy(update={"none_of_these": False, "question": "Is the customer angry?"})
    found = anyio.run(asked.predict, schema, conversation_from_text("i want my money back please"))
    assert found.category == "late" and len(server.bodies) == 1


def test_where_it_hears_the_same_choice_it_is_asked_once() -> None:
    server = SecondThoughts()
    pieces, found = second_thoughts("where is my parcel?", server)
    assert found.category == "late" and len(server.bodies) == 2  # one whole, one streamed
    assert "".join(pieces) == found.reasoning


def test_a_prompt_that_says_more_than_the_encoder_knows_is_answered_by_the_model_alone() -> None:
    server = FakeServer(undecided)
    asked = predictor(server, mode=Mode.fast, codes=CODES._replace(likeness=SHIPPED))
    conversation = conversation_from_text("i want my money back please")
    prompt = render(SCHEMA, conversation, CODES.texts)
    assert anyio.run(asked.predict, SCHEMA, conversation).category == "refund"
    assert anyio.run(asked.answer, prompt, SCHEMA, conversation).category == "late"


def test_reasons_that_do_not_come_to_what_was_heard_leave_what_was_said_first() -> None:
    server = SecondThoughts()
    server.stubborn = True
    _, found = second_thoughts("i want my money back please", server)
    assert found.category == "late" and found.reasoning is not None and "This fits A" in found.reasoning
    assert found.probabilities is not None and found.confidence == max(found.probabilities.values())


def test_a_base_says_itself_how_much_it_counts_and_is_refused_without_the_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = find_base(STARTER).folder
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(source / name, tmp_path / name)
    assert load_codes(tmp_path, 4).likeness is None
    (tmp_path / NOTE).write_text(json.dumps({"identity": "x", "likeness": 2.0}))
    with pytest.raises(CodesError, match=r"likeness/encoder\.safetensors is missing; build it again"):
        load_codes(tmp_path, 4)
    (tmp_path / "likeness").mkdir()
    shutil.copyfile(package.likeness_file(), tmp_path / "likeness" / "encoder.safetensors")
    assert load_codes(tmp_path, 4).likeness == Likeness(2.0, tmp_path / "likeness" / "encoder.safetensors")
    monkeypatch.setattr(sentence_encoder, "PACKAGES", ("nobody-has-this",) * 5)
    with pytest.raises(CodesError, match="pip install"):
        load_codes(tmp_path, 4)
