"""The demo's tenant: a business that was written for this project and that the base has not been trained on."""

from typing import NamedTuple

from app.runs.presets import Preset, plan
from evaluation.contract.record import Conversation, Split
from evaluation.contract.schema import CategorySchema
from evaluation.gating.coverage import too_few
from evaluation.gating.policy import load_policy
from evaluation.suites import steerability
from training.base import businesses

SHOP = "second_hand_phone_shop"


class Demo(NamedTuple):
    """seed: of the split and of the training."""

    category_schema: CategorySchema
    conversations: list[Conversation]
    preset: Preset
    seed: int

    @property
    def name(self) -> str:
        """Of the tenant and of all that is its."""
        return f"demo-{self.preset.value}-{self.seed}"

    def too_few(self) -> list[str]:
        """What the preset's gate asks too little of to decide it; twenty minutes are not enough for both."""
        held_out = [one for one in self.conversations if one.split is Split.test and one.labelled]
        most = plan(self.preset).benchmark.max_items
        return too_few(steerability.build(self.category_schema, held_out, max_items=most), load_policy())


def shop_demo(preset: Preset, seed: int) -> Demo:
    """The shop in its owner's words, with half of its conversations to learn from."""
    shop = businesses.load()[SHOP]
    return Demo(businesses.schema_of(shop), businesses.in_halves(shop, seed), preset, seed)
