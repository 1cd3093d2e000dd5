"""A sentence encoder is heard where a base wants it, where it answers at once, and nowhere else."""

import json
import shutil
from pathlib import Path

import anyio
import pytest

from app.serving.base import STARTER, find_base
from evaluation import sentence_encoder
from evaluation.contract.base_note import NOTE
from evaluation.contract.mode import Mode
from evaluation.contract.perturb import swap
from evaluation.contract.record import conversation_from_text
from evaluation.contract.render import CodesError
from evaluation.contract.schema import Category, CategorySchema
from evaluation.inference import likeness
from evaluation.inference.predictor import Prediction
from evaluation.inference.tokenizer_files import load_codes
from tests.evaluation.fake_server import CODES, Asked, FakeServer, Reply, predictor

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
EVEN = {None: 0.1, "late": 0.3, "refund": 0.3, "broken": 0.3}


def heard(text: str, schema: CategorySchema = SCHEMA, weight: float = 8.0) -> dict[str | None, float]:
    return anyio.run(likeness.weighed, EVEN, schema, conversation_from_text(text), weight)


def test_the_nearest_of_definition_and_includes_counts_and_none_of_these_is_average() -> None:
    found = heard("my package has not come yet, where is it?")
    assert max(found, key=found.__getitem__) == "late"
    found = heard("the lampshade came with a crack in the glass")
    assert max(found, key=found.__getitem__) == "broken"
    assert sum(found.values()) == pytest.approx(1.0)
    each = [found[key] / EVEN[key] for key in SCHEMA.keys]
    assert min(each) < found[None] / EVEN[None] < max(each)


def test_an_edit_is_followed_and_a_name_says_nothing() -> None:
    text = "my package has not come yet, where is it?"
    swapped = heard(text, swap(SCHEMA, "late", "refund").schema)
    assert max(swapped, key=swapped.__getitem__) == "refund"
    renamed = [one.model_copy(update={"name": f"X{n}"}) for n, one in enumerate(SCHEMA.categories)]
    assert heard(text, SCHEMA.model_copy(update={"categories": tuple(renamed)})) == heard(text)


def test_where_the_schema_asks_a_question_or_has_one_category_nothing_changes() -> None:
    text = "my package has not come yet, where is it?"
    assert heard(text, SCHEMA.model_copy(update={"question": "Is the customer angry?"})) == EVEN
    assert heard(text, SCHEMA.model_copy(update={"categories": SCHEMA.categories[:1]})) == EVEN


def undecided(asked: Asked) -> Reply:
    """A model to which all is one, but for the first category, which it likes a little more."""
    codes = [option.code for option in asked.options]
    return Reply(f"Because.\nAnswer: {codes[0]}", {code: 0.31 - 0.01 * n for n, code in enumerate(codes)})


@pytest.mark.parametrize(
    ("mode", "weight", "answer"),
    [
        (Mode.fast, 8.0, "refund"),
        (Mode.fast, 0.0, "late"),
        (Mode.reasoned, 8.0, "late"),
    ],
)
def test_only_an_answer_at_once_hears_it(mode: Mode, weight: float, answer: str) -> None:
    schema = SCHEMA.model_copy(update={"none_of_these": False})
    server = FakeServer(undecided)
    asked = predictor(server, mode=mode, codes=CODES._replace(likeness=weight))

    async def run() -> Prediction:
        return await asked.predict(schema, conversation_from_text("i want my money back please"))

    found = anyio.run(run)
    assert found.category == answer and found.probabilities is not None
    assert found.confidence == found.probabilities[answer]
    assert sum(found.probabilities.values()) == pytest.approx(1.0)


def test_a_base_says_itself_how_much_it_counts_and_is_refused_without_the_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = find_base(STARTER).folder
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(source / name, tmp_path / name)
    assert load_codes(tmp_path, 4).likeness == 0.0
    (tmp_path / NOTE).write_text(json.dumps({"identity": "x", "likeness": 8.0}))
    assert load_codes(tmp_path, 4).likeness == 8.0
    monkeypatch.setattr(sentence_encoder, "PACKAGE", "nobody_has_this")
    with pytest.raises(CodesError, match="pip install"):
        load_codes(tmp_path, 4)
