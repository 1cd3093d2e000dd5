"""Models behind a server that answers typed decisions, as stages of an evaluation run."""

from collections.abc import Sequence
from typing import Final

import httpx

from evaluation.contract.mode import Mode
from evaluation.contract.record import conversation_from_text
from evaluation.contract.schema import Category, CategorySchema
from evaluation.inference.completions import PredictorError
from evaluation.inference.decision_wires import Wire, WirePredictor
from evaluation.inference.runner import Measured, Question, Questions
from evaluation.inference.stage_client import ClientSettings, KeptStages, ServedStage
from evaluation.metrics.divergence import Divergence

_PROBE: Final = Question(
    CategorySchema(
        categories=(
            Category(key="yes", name="yes", definition="It is a greeting."),
            Category(key="no", name="no", definition="It is something else."),
        )
    ),
    conversation_from_text("hello"),
)


class DecisionStageClient(KeptStages):
    def __init__(
        self, client: httpx.AsyncClient, served: Sequence[ServedStage], wire: Wire, settings: ClientSettings
    ):
        super().__init__(client, served, settings)
        self._wire = wire

    async def check(self) -> None:
        """Whether the server speaks the wire and has the models, before all is asked. Raises: PredictorError."""
        for one in self.stages:
            try:
                await WirePredictor(self._client, one.model, self._wire).predict(*_PROBE)
            except PredictorError as error:
                if error.status is not None and 400 <= error.status < 500:
                    raise PredictorError(
                        f"the server refuses model {one.model!r} on the wire {self._wire}: {error}"
                    ) from error

    async def answers(
        self,
        stage: str,
        questions: Questions,
        only: Sequence[int] | None = None,
        mode: Mode | None = None,
    ) -> list[Measured]:
        """mode: these wires have one. Raises: RunnerError."""
        one = self._served[stage]
        predictor = WirePredictor(self._client, one.model, self._wire)
        return await self._run(one, questions, only, predictor, f"-{self._wire}")

    async def divergence(self, stage: str, other: str, questions: Questions) -> Divergence | None:
        """Of no model's own words is anything known."""
        return None
