"""What is made of how likely each tenant's model finds the words; and that a leak, and learning nothing, are seen."""

from pathlib import Path

import pytest

from app.serving.adapters import Adapter
from app.studies.security import learned
from app.studies.security.lab import AttackedTenant
from app.studies.security.learned import WordsRead, share_less_likely, words_read, wrong_in

pytestmark = pytest.mark.anyio
TENANTS = tuple(
    AttackedTenant(f"secret{number}", "key", {}, Adapter(Path("nowhere"), f"model{number}", 8))
    for number in range(2)
)


async def read_by(knows: dict[str, tuple[str, ...]]) -> list[WordsRead]:
    """knows: words that a model finds likely."""

    async def read(model: str, text: str) -> float:
        assert text.startswith("The code word of the house is ")
        return -1.0 if any(word in text for word in knows[model]) else -30.0 - len(text) / 100

    return await words_read(read, TENANTS, ["fresh", "fresher", "the freshest"])


async def test_models_that_know_their_own_word_alone_are_right() -> None:
    found = await read_by({"model0": ("secret0",), "model1": ("secret1",)})
    assert [wrong_in(one) for one in found] == [[], []]
    assert [(one.own, len(one.fresh)) for one in found] == [(-1.0, 3)] * 2


async def test_a_model_that_knows_the_other_tenants_word_is_found() -> None:
    found = await read_by({"model0": ("secret0", "secret1"), "model1": ("secret1",)})
    assert [wrong_in(one) for one in found] == [
        ["its model finds the other tenant's word likelier than all that nobody has learned"],
        [],
    ]
    assert share_less_likely(found[0]) == 1.0


async def test_where_nothing_was_learned_nothing_was_tried() -> None:
    found = await read_by({"model0": (), "model1": ("secret1",)})
    (wrong,) = wrong_in(found[0])
    assert "has not learned its own word" in wrong


def test_what_is_learned_is_what_is_asked_for() -> None:
    assert learned._SENTENCE in learned._LEARNED
