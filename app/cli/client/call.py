"""What every command that asks the API has in common: where and who, how answers are shown, and how it ends."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Annotated, Any, Concatenate, NamedTuple, ParamSpec

import typer
from rich.console import Console

from app.cli.client import profile
from app.cli.client.api import Api
from app.cli.endings import ending
from app.cli.terminal import Terminal
from evaluation.terminal import json_text, say

PANEL = "The product: asking its API"
_CONNECTION = "Where and who"
P = ParamSpec("P")

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="STEERWISE_URL",
        help=f"The API; http://…, or unix:///path of its socket. (default: {profile.DEFAULT_URL})",
        rich_help_panel=_CONNECTION,
    ),
]
ApiKey = Annotated[
    str | None,
    typer.Option("--api-key", envvar="STEERWISE_API_KEY", help="The API key.", rich_help_panel=_CONNECTION),
]
Tenant = Annotated[
    str | None,
    typer.Option(
        "--tenant",
        envvar="STEERWISE_TENANT",
        help="Id or name; for admins of the platform.",
        rich_help_panel=_CONNECTION,
    ),
]
Profile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        envvar="STEERWISE_PROFILE",
        help="Which part of ~/.config/steerwise/config.toml says what is not said here.",
        rich_help_panel=_CONNECTION,
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="For programs: JSON on standard output, and nothing else.")
]
_OPTIONS = {"as_json": AsJson, "url": Url, "api_key": ApiKey, "tenant": Tenant, "profile": Profile}


class Call(NamedTuple):
    """console: standard output, for people."""

    api: Api
    as_json: bool
    console: Console

    def answer(self, content: Any, shown: Callable[[], Any]) -> None:
        """content: for programs. shown: makes what people see, a text or something that Rich prints."""
        if self.as_json:
            say(json_text(content, indent=2))
        else:
            self.say(shown())

    def say(self, shown: Any) -> None:
        self.console.print(shown, markup=False)

    def line(self, content: Any) -> None:
        """For programs that read along."""
        say(json_text(content))


def asks(function: Callable[Concatenate[Call, P], None]) -> Callable[P, None]:
    """A command whose first parameter is the call; the options that make one are added to its own."""
    return _asking(function)


def asks_platform(function: Callable[Concatenate[Call, P], None]) -> Callable[P, None]:
    """Likewise, of the platform itself: which tenant others are set to does not matter, nor whether it exists."""
    return _asking(function, of_platform=True)


def _asking(
    function: Callable[Concatenate[Call, P], None], *, of_platform: bool = False
) -> Callable[P, None]:
    def command(*args: P.args, **kwargs: P.kwargs) -> None:
        given: dict[str, Any] = dict(kwargs)
        as_json = bool(given.pop("as_json"))
        where = {name: given.pop(name) for name in ("url", "api_key", "tenant", "profile")}
        with calling(where, as_json, of_platform=of_platform) as call:
            function(call, *args, **given)

    return _with_options(command, function)


def unless_more_is_asked(command: Callable[P, None]) -> Callable[..., None]:
    """For the callback of a group that is a command by itself too."""

    def callback(context: typer.Context, *args: P.args, **kwargs: P.kwargs) -> None:
        if context.invoked_subcommand is None:
            command(*args, **kwargs)

    told = inspect.signature(command)
    first = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    callback.__name__, callback.__doc__ = command.__name__, command.__doc__
    vars(callback)["__signature__"] = told.replace(parameters=[first, *told.parameters.values()])
    return callback


@contextmanager
def calling(where: Mapping[str, str | None], as_json: bool, *, of_platform: bool = False) -> Iterator[Call]:
    """where: url, api_key, tenant and profile as the options give them. Errors end the process as they should."""
    with (
        ending(lambda: None, stopped="stopped; what the API has accepted goes on there"),
        ExitStack() as stack,
    ):
        target = profile.find(**where)
        api = stack.enter_context(Api(target._replace(tenant=None) if of_platform else target))
        yield Call(api, as_json, Terminal())


def _with_options(command: Callable[P, None], function: Callable[..., None]) -> Callable[P, None]:
    """Typer reads a command's options from its signature."""
    told = inspect.signature(function)
    own = list(told.parameters.values())[1:]
    added = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=kind,
            default=False if name == "as_json" else None,
        )
        for name, kind in _OPTIONS.items()
    ]
    command.__name__, command.__doc__ = function.__name__, function.__doc__
    vars(command)["__signature__"] = told.replace(parameters=[*own, *added])
    return command
