"""Why a call is not answered."""

from app.errors import NotFound


class ModelNotFound(NotFound):
    """No model and no schema of the tenant has this name; `GET /v1/models` lists those that there are."""

    code = "model_not_found"
