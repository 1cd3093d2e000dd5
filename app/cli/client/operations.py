"""`steerwise maintenance`: a pause in which no job begins, for whoever works on the installation."""

from typing import Annotated, Any

import typer

from app.cli.client import waiting
from app.cli.client.api import Json
from app.cli.client.call import Call, asks_platform
from app.cli.client.table import at, details

maintenance = typer.Typer(
    no_args_is_help=True, help="A pause in which no job begins; for admins of the platform."
)
_PATH = "/v1/maintenance"


@maintenance.command("begin")
@asks_platform
def begin_maintenance(
    call: Call,
    reason: Annotated[str, typer.Option(help="What is done, for whoever asks.")],
    wait: Annotated[bool, typer.Option("--wait", help="Stay until the last running job has ended.")] = False,
) -> None:
    """No job begins any more. What runs goes on; what is accepted is kept; answers are given as ever."""
    found = dict(call.api.send("PUT", _PATH, json={"reason": reason}).json())
    if wait:
        found = waiting.until(call.api, _PATH, lambda state: state["running"] == 0, lambda _state: None)
    call.answer(found, lambda: _shown(found))


@maintenance.command("end")
@asks_platform
def end_maintenance(call: Call) -> None:
    """Jobs begin again."""
    found = dict(call.api.send("DELETE", _PATH).json())
    call.answer(found, lambda: _shown(found))


@maintenance.command("show")
@asks_platform
def show_maintenance(call: Call) -> None:
    """Whether jobs may begin, and how many run."""
    found = call.api.get(_PATH)
    call.answer(found, lambda: _shown(found))


def _shown(found: Json) -> Any:
    since = at(found["began_at"])
    return details(
        {
            "jobs": "may begin" if since is None else f"do not begin since {since}",
            "reason": found["reason"],
            "running": found["running"],
        }
    )
