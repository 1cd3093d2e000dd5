"""Why a conversation is not answered."""

from app.errors import Conflict, InvalidRequest, Refused


class NothingDeployed(Conflict):
    """The schema has no live deployment yet, so there is no model that may answer for it."""

    code = "nothing_deployed"


class UngatedNotAllowed(Conflict):
    """Only the base as it stands could answer, and the tenant's setting `ungated` or a live deployment forbids it."""

    code = "ungated_not_allowed"


class ModelNotServed(Conflict):
    """What is deployed was trained on another base than the one that is served now, and must not answer on this one."""

    code = "model_not_served"


class ModeNotGated(Conflict):
    """The deployed model has passed no gate in the mode that was asked for, under the version that is served."""

    code = "mode_not_gated"


class ConversationTooLong(InvalidRequest):
    """The conversation and the schema together leave the model no room for an answer; `problems` has the numbers."""

    code = "conversation_too_long"


class ClientGone(Refused):
    """Nobody is left to hear it; only our log does."""

    code = "client_gone"
    status = 499
