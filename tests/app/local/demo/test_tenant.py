"""The demo's tenant: half of its labels are learned from, and enough is held out for a gate."""

from collections import Counter

from app.local.demo.tenant import SHOP, shop_demo
from app.runs.presets import Preset
from evaluation.contract.record import Split
from training.base import businesses


def test_half_of_every_category_is_for_training_and_the_gate_has_what_it_needs() -> None:
    demo = shop_demo(Preset.demo, 0)
    of_split = Counter(c.split for c in demo.conversations)
    assert of_split[Split.test] >= 100 and set(of_split) == {Split.train, Split.test}
    for key in (*demo.category_schema.keys, None):
        own = Counter(c.split for c in demo.conversations if c.category == key)
        assert own[Split.train] <= 25
        assert abs(2 * own[Split.train] - own.total()) <= 1


def test_another_seed_places_other_conversations_in_training_and_the_same_one_the_same() -> None:
    first, again, other = (shop_demo(Preset.demo, seed) for seed in (0, 0, 1))
    assert first == again
    trained = [{c.id for c in demo.conversations if c.split is Split.train} for demo in (first, other)]
    assert trained[0] != trained[1] and first.name != other.name


def test_the_base_has_not_learned_from_it() -> None:
    assert SHOP not in {b.name for b in businesses.for_training(businesses.load())}


def test_a_gate_that_cannot_decide_is_said_before_it_is_asked() -> None:
    assert any("steerability" in one for one in shop_demo(Preset.demo, 0).too_few())
    assert shop_demo(Preset.cpu, 0).too_few() == []
