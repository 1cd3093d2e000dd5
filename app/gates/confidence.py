"""How far a model's confidences may be believed under a schema version: what its gate has fitted, and its use."""

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from evaluation.inference.predictor import Prediction
from evaluation.metrics import calibrator
from evaluation.metrics.calibration import Calibration


class Fitted(BaseModel):
    """As it is kept with the gate. n: answers to calibrate on, whether they sufficed for a temperature or not.

    ece: of the confidences that are shown, on `ece_n` held-out answers.
    """

    model_config = ConfigDict(frozen=True)

    method: Literal["temperature", "none"]
    temperature: float
    n: int
    ece: float | None
    ece_n: int

    @classmethod
    def of(cls, found: Calibration) -> "Fitted":
        ece = found.ece.after
        return cls(
            method=found.method, temperature=found.temperature, n=found.n_fit, ece=ece.value, ece_n=ece.n
        )

    def applied(self, found: Prediction) -> Prediction:
        """The same that the gate applies to what it measures."""
        return calibrator.applied(found, self.temperature if self.method == "temperature" else None)


NOT_FITTED: Final = Fitted(method="none", temperature=1.0, n=0, ece=None, ece_n=0)
