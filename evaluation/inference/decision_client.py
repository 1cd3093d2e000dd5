"""Models behind a server that answers typed decisions, as stages of an evaluation run."""

from collections.abc import Sequence
from typing import Final

import httpx

from evaluation.contract.mode import Mode
from evaluation.contract.record import conversation_from_text
from evaluation.contract.schema import Category, CategorySchema
from evaluation.inference.completions import PredictorError
from evaluation.inference.decision_wires import Wire, WirePredictor
from evaluation.inference.http import Patience
from evaluation.inference.model_client import Sending
from evaluation.inference.runner import Measured, Question, Questions
from evaluation.inference.stage_client import ClientSettings, KeptStages, ServedStage
from evaluation.metrics.divergence import Divergence

_PROBE_PATIENCE_S: Final = 60.0  # with a server that is busy before anything is asked
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
    modes = (Mode.fast,)

    def __init__(
        self, client: httpx.AsyncClient, served: Sequence[ServedStage], wire: Wire, settings: ClientSettings
    ):
        super().__init__(client, served, settings)
        self._wire = wire

    async def check(self) -> None:
        """Whether the server speaks the wire and has the models, before all is asked. Raises: PredictorError."""
        sending = Sending(patience=Patience(_PROBE_PATIENCE_S))
        for one in self.stages:
            try:
                await WirePredictor(self._client, one.model, self._wire, sending).predict(*_PROBE)
            except PredictorError as error:
                refused = error.status is not None and 400 <= error.status < 500
                did = "refuses" if refused else "gives no answer that can be used for"
                raise PredictorError(
                    f"the server {one.server} {did} model {one.model!r} on the wire {self._wire}: {error}; "
                    f"{_to_do(error)}",
                    error.status,
                ) from error

    async def answers(
        self,
        stage: str,
        questions: Questions,
        only: Sequence[int] | None = None,
        mode: Mode | None = None,
    ) -> list[Measured]:
        """mode: these wires have one. Raises: RunnerError."""
        if mode not in (None, *self.modes):
            raise ValueError(f"the wire {self._wire} knows no mode {mode}")
        one = self._served[stage]
        predictor = WirePredictor(self._client, one.model, self._wire, self._sending)
        return await self._run(one, questions, only, predictor, f"-{self._wire}")

    async def divergence(self, stage: str, other: str, questions: Questions) -> Divergence | None:
        """Of no model's own words is anything known."""
        return None


def _to_do(error: PredictorError) -> str:
    status = error.status or 0
    if isinstance(error.__cause__, httpx.TransportError):
        return "see that it runs, and that --base-url or --socket is its address"
    if status in (401, 403):
        return "name the environment variable with its key: --api-key-env"
    if status in (429, 503):
        return "come back when it has room"
    if 300 <= status < 400:
        return "give the address that it sends to as --base-url"
    if status >= 500:
        return "look at what the server itself has written about it"
    return "see that --base-url, --wire and --model belong together"
