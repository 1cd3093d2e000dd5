"""Why a call is not answered."""

from app.errors import NotFound, Refused


class ModelNotFound(NotFound):
    """No model and no schema of the tenant has this name; `GET /v1/models` lists those that there are."""

    code = "model_not_found"


class UnknownEncoding(Refused):
    """The body is compressed in a way that is not read here."""

    code = "unknown_encoding"
    status = 415
