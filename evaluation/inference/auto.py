"""Mode auto: the code at once, and with its reasoning where that is unsure. Users and the bench share it."""

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import NamedTuple, TypeAlias

from evaluation.contract.record import Conversation
from evaluation.contract.schema import CategorySchema
from evaluation.inference.explaining import ExplainingPredictor
from evaluation.inference.predictor import Prediction, VllmPredictor, usage

Sure: TypeAlias = Callable[[Prediction], bool]


class AutoPredictor(NamedTuple):
    """sure: whether an answer at once may stand. explaining: gives one that does its reasons, where they are wanted.

    The answer says in its `mode` how it was come by, and its tokens are those of both where both were asked.
    """

    fast: VllmPredictor
    reasoned: VllmPredictor
    sure: Sure
    explaining: ExplainingPredictor | None = None

    async def predict(self, schema: CategorySchema, conversation: Conversation) -> Prediction:
        """Raises: PredictorError."""
        start = time.perf_counter()
        first = await self.fast.predict(schema, conversation)
        if self.sure(first):
            return await self._standing(first, schema, conversation)
        return _after(first, await self.reasoned.predict(schema, conversation), start)

    async def stream(
        self, schema: CategorySchema, conversation: Conversation
    ) -> AsyncGenerator[str | Prediction, None]:
        """As `VllmPredictor.stream`."""
        start = time.perf_counter()
        first = await self.fast.predict(schema, conversation)
        if self.sure(first):
            yield await self._standing(first, schema, conversation)
            return
        async with aclosing(self.reasoned.stream(schema, conversation)) as pieces:
            async for piece in pieces:
                yield piece if isinstance(piece, str) else _after(first, piece, start)

    async def _standing(
        self, found: Prediction, schema: CategorySchema, conversation: Conversation
    ) -> Prediction:
        if self.explaining is None:
            return found
        return await self.explaining.explained(found, schema, conversation)


def _after(first: Prediction, second: Prediction, start: float) -> Prediction:
    """start: of the first, by the performance counter."""
    return second.model_copy(update=usage([first, second]) | {"latency_s": time.perf_counter() - start})
