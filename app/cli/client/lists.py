"""The lists of all groups of commands."""

from typing import Annotated, Any

import typer

from app.cli.client.call import Call
from app.cli.client.table import Columns, table

Limit = Annotated[int, typer.Option(help="How many, the newest.", min=1)]
All = Annotated[bool, typer.Option("--all", help="All of them.")]
OfSchema = Annotated[str | None, typer.Option("--schema", help="Only those of this schema: its id or name.")]


def listed(call: Call, path: str, columns: Columns, limit: int, everything: bool, **query: Any) -> None:
    rows = call.api.pages(path, None if everything else limit, **query)
    call.answer(rows, lambda: table(rows, columns) if rows else "none")


def schema_id(call: Call, named: str | None) -> str | None:
    """Raises: InputError where there is none of this name."""
    return None if named is None else call.api.find("/v1/schemas", named, "schema")
