"""`steerwise faults run`: the product is broken on purpose, in a folder of its own, to see what becomes of it."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from app.cli.endings import FAILED, PASSED, session
from app.cli.terminal import Terminal
from evaluation.contract.seeds import MAX_SEED
from evaluation.terminal import complain, json_text, say

faults = typer.Typer(
    no_args_is_help=True, help="Breaks an installation of its own, and looks whether anything was lost."
)


class DatabaseChoice(StrEnum):
    sqlite = "sqlite"
    postgresql = "postgresql"


@faults.command()
def run(
    seed: Annotated[int, typer.Option(help="Of which fault comes when.", min=0, max=MAX_SEED)] = 0,
    minutes: Annotated[float, typer.Option(help="For so long faults come.", min=0.1, max=1440)] = 10,
    database: Annotated[
        DatabaseChoice, typer.Option(help="PostgreSQL: one of its own, of the programs that are found here.")
    ] = DatabaseChoice.sqlite,
    every: Annotated[
        float,
        typer.Option(
            help="Seconds from one fault to the next, on the average. 2: a lost worker is noticed after 5, so that "
            "faults meet what earlier ones have left.",
            min=0.1,
            max=600,
        ),
    ] = 2,
    real: Annotated[
        bool,
        typer.Option(
            "--real",
            help="One run that trains and is measured as ever, with the real vLLM where it is installed: --minutes is "
            "the most, --every had better be 40.",
        ),
    ] = False,
    scratch: Annotated[
        Path | None,
        typer.Option(
            help="A folder that is not there yet; it stays. By default a temporary one that is removed."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Only the JSON object, on standard output.")
    ] = False,
) -> None:
    """Start the product in a folder of its own, train, edit, deploy and ask without end, and meanwhile kill, stop, fill
    and corrupt what it stands on. Then everything that was accepted must be there, once.

    It uses no installation that is there already, whatever the environment says. Stages train for a second or two, a
    gate asks one question, and stand-ins speak for vLLM and S3; everything else is the product. With --real only S3 is
    one: one run of the starter goes from its traces to its gate, in half an hour or so. Exit 0 nothing was
    violated, 3 something was, as where that gate has no verdict in the end."""
    from app.faults.run import FaultRun
    from app.faults.run import run as run_faults

    asked = FaultRun(
        seed, minutes, database is DatabaseChoice.postgresql, every, scratch, scratch is not None, real
    )
    with session():
        report = run_faults(asked, _quiet if as_json else _tell)
        if as_json:
            say(json_text(report.as_json(), indent=2))
        else:
            say(*report.lines())
    if report.violations:
        complain(f"steerwise: {len(report.violations)} violations; the same again: --seed {seed}")
    raise typer.Exit(FAILED if report.violations else PASSED)


def _tell(name: str, what: str) -> None:
    Terminal().print(f"[bold]{escape(name):<12}[/bold] {escape(what)}")


def _quiet(_name: str, _what: str) -> None:
    pass
