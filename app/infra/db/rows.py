"""How the values of a row are written as JSON, for whoever takes rows out of the database."""

import base64
from datetime import date, datetime
from typing import Any
from uuid import UUID


def as_text(value: Any) -> str:
    """For `json.dumps(default=…)`. Raises: TypeError."""
    match value:
        case UUID():
            return str(value)
        case datetime() | date():
            return value.isoformat()
        case bytes():
            return base64.b64encode(value).decode()
    raise TypeError(f"a column holds {type(value).__name__}, which has no form in a file")
