"""The demo's tenant: a business that was written for this project and that the base has not been trained on."""

from typing import NamedTuple

from app.runs.presets import Preset
from evaluation.contract.record import Conversation
from evaluation.contract.schema import CategorySchema
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


def shop_demo(preset: Preset, seed: int) -> Demo:
    """The shop in its owner's words, with half of its conversations to learn from."""
    shop = businesses.load()[SHOP]
    return Demo(businesses.schema_of(shop), businesses.in_halves(shop, seed), preset, seed)
