"""Reasons for what was answered at once: written after the decision, and of no influence on it."""

import time

from evaluation.contract.parse import decided_by, evidence, parse
from evaluation.contract.record import Conversation
from evaluation.contract.render import SAID, Prompt, render
from evaluation.contract.schema import CategorySchema
from evaluation.inference.completions import Completion
from evaluation.inference.predictor import Prediction, VllmPredictor, usage


class ExplainingPredictor(VllmPredictor):
    """In mode reasoned it does nothing more: there the reasons came first."""

    async def predict(self, schema: CategorySchema, conversation: Conversation) -> Prediction:
        return await self.explained(await super().predict(schema, conversation), schema, conversation)

    async def explained(
        self, found: Prediction, schema: CategorySchema, conversation: Conversation
    ) -> Prediction:
        """An answer that was given without reasons, with them. Raises: PredictorError."""
        if found.reasoning is not None or found.failure is not None:
            return found
        start, prompt = time.perf_counter(), render(schema, conversation, self.codes)
        async with self._places:
            reasoning, made = await self._why(prompt, schema, found.category)
        why = {
            "reasoning": reasoning,
            "evidence": tuple(evidence(reasoning, conversation)),
            "decided_by": decided_by(reasoning, schema, found.category),
            "latency_s": found.latency_s + time.perf_counter() - start,
        }
        return found.model_copy(update=usage([found, *made]) | why)

    async def _why(
        self, prompt: Prompt, schema: CategorySchema, category: str | None
    ) -> tuple[str, list[Completion]]:
        """What the model would have written before its answer, if it comes to the same; else its quotation, and the
        condition for the code that was answered."""
        freely = await self._asking.complete(self._continued(prompt, SAID, self.max_tokens))
        thought = parse(SAID + freely.text, schema, prompt.codes, truncated=freely.truncated)
        if thought.failure is None and thought.category == category:
            return thought.reasoning, [freely]
        bound, why = await self._reasons_for(prompt, schema, category, SAID, freely, thought.reasoning)
        return why.reasoning, [freely, bound]
