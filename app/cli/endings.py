"""How a command ends: every ending has an exit code of its own and one clear message."""

import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import typer

from app.cli.console import ConsoleReporter
from app.errors import AppError
from app.settings import Settings, load_settings
from evaluation import terminal

PASSED, FAILED, INCOMPLETE, STOPPED = 0, 3, 4, 130  # 1 and 2: an AppError's own
_TO_GO_ON = "stopped; nothing that was finished is lost. To go on: "


@contextmanager
def session() -> Iterator[tuple[Settings, ConsoleReporter]]:
    """For a command that works with this machine's settings. A traceback means that we made a mistake."""
    progress = ConsoleReporter()
    try:
        with ending(progress.close, stopped=_TO_GO_ON + shlex.join(["steerwise", *sys.argv[1:]])):
            yield load_settings(), progress
    finally:
        progress.close()


@contextmanager
def ending(tidy: Callable[[], None], stopped: str) -> Iterator[None]:
    """tidy: before a message is written, so that it does not stand in a moving line. stopped: said after Ctrl-C."""
    before = {number: signal.signal(number, _stopped) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    except AppError as error:
        tidy()
        complain(str(error), *error.details)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        tidy()
        complain(stopped)
        raise typer.Exit(STOPPED) from None
    except Exception as error:
        from app.infra import outage  # knows the drivers of databases, which most commands do without

        passing = outage.told(error)
        if passing is None:
            raise
        tidy()
        complain(str(passing), outage.reason(error))
        raise typer.Exit(passing.exit_code) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def complain(message: str, *details: str) -> None:
    terminal.complain(f"steerwise: {message}", *(f"  {line}" for line in details))


def _stopped(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
