"""The operations of the API that the clients have, and how each is made safe to send again.

All of them may be sent again where no answer came: those that make something, or say what they removed, carry an
`Idempotency-Key`, and the others do the same twice that they do once. But for an upload: a file that arrived whole is
refused the second time (`dataset_has_content`), and the data set has it.
"""

from typing import Final, NamedTuple


class Operation(NamedTuple):
    """once: it takes an `Idempotency-Key`. query: the name of the type of its query, in `steerwise.models`."""

    method: str
    path: str
    once: bool = False
    query: str = ""


ME: Final = Operation("GET", "/v1/me")
CLASSIFY: Final = Operation("POST", "/v1/classify")
CLASSIFY_BATCH: Final = Operation("POST", "/v1/classify/batch")
CLASSIFY_STREAM: Final = Operation("POST", "/v1/classify/stream")
ANSWERS: Final = Operation("GET", "/v1/answers", query="AnswersQuery")
ANSWER: Final = Operation("GET", "/v1/answers/{answer_id}")
EXPORT_ANSWERS: Final = Operation("GET", "/v1/answers/export", query="ExportQuery")
FEEDBACK: Final = Operation("POST", "/v1/answers/{answer_id}/feedback")
FORGET: Final = Operation("DELETE", "/v1/answers", once=True, query="ForgetQuery")
CREATE_SCHEMA: Final = Operation("POST", "/v1/schemas", once=True)
SCHEMAS: Final = Operation("GET", "/v1/schemas")
PUBLISH_SCHEMA: Final = Operation("POST", "/v1/schemas/{schema_id}/publish")
CREATE_DATASET: Final = Operation("POST", "/v1/datasets", once=True)
DATASETS: Final = Operation("GET", "/v1/datasets", query="DatasetsQuery")
DATASET: Final = Operation("GET", "/v1/datasets/{dataset_id}")
UPLOAD: Final = Operation("PUT", "/v1/datasets/{dataset_id}/content", query="UploadQuery")
APPEND: Final = Operation("POST", "/v1/datasets/{dataset_id}/conversations")
CONVERSATIONS: Final = Operation("GET", "/v1/datasets/{dataset_id}/conversations", query="ConversationsQuery")
CREATE_RUN: Final = Operation("POST", "/v1/runs", once=True)
RUN: Final = Operation("GET", "/v1/runs/{run_id}")
CANCEL_RUN: Final = Operation("POST", "/v1/runs/{run_id}/cancel")
CREATE_TRIGGER: Final = Operation("POST", "/v1/triggers", once=True)
TRIGGERS: Final = Operation("GET", "/v1/triggers", query="TriggersQuery")
TRIGGER: Final = Operation("GET", "/v1/triggers/{trigger_id}")
START_TRIGGER: Final = Operation("POST", "/v1/triggers/{trigger_id}/start", once=True)
SIMULATE_TRIGGER: Final = Operation("POST", "/v1/triggers/simulate")
CREATE_GATE: Final = Operation("POST", "/v1/gates", once=True)
GATE: Final = Operation("GET", "/v1/gates/{gate_id}")
CREATE_DEPLOYMENT: Final = Operation("POST", "/v1/deployments", once=True)
DEPLOYMENT: Final = Operation("GET", "/v1/deployments/{deployment_id}")
ROLL_BACK: Final = Operation("POST", "/v1/deployments/{deployment_id}/rollback", once=True)
USAGE: Final = Operation("GET", "/v1/usage", query="UsageQuery")

ALL: Final = tuple(value for value in globals().values() if isinstance(value, Operation))
