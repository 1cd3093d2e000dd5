"""The command line: `steerwise run`, `classify`, `demo`, `bench`, `admin`."""

import errno
import json
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

from app.errors import AppError, NoSpace
from app.pipeline.console import Reporter, stage_table, verdict_lines
from app.pipeline.presets import Preset
from app.settings import Settings, load_settings
from evaluation.report import Report, Verdict

PASSED, FAILED, INCOMPLETE, STOPPED = 0, 3, 4, 130  # 1 and 2: an AppError's own
_VERDICTS = {Verdict.passed: PASSED, Verdict.failed: FAILED, Verdict.incomplete: INCOMPLETE}

cli = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
bench = typer.Typer(no_args_is_help=True, help="Measurements of what ships with the project.")
cli.add_typer(bench, name="bench")
admin = typer.Typer(no_args_is_help=True, help="For whoever runs the platform, on its own machine.")
cli.add_typer(admin, name="admin")


@cli.command()
def run(
    schema: Annotated[Path, typer.Option(help="The category schema, JSON.")],
    conversations: Annotated[Path, typer.Option(help="Labelled conversations, JSONL or CSV, gzip allowed.")],
    out: Annotated[Path, typer.Option(help="Output directory; the same one again goes on where it stopped.")],
    preset: Annotated[Preset, typer.Option(help="How much work.")] = Preset.standard,
    base: Annotated[str, typer.Option(help="starter, a model folder, or a Hugging Face name.")] = "starter",
    assign: Annotated[list[str] | None, typer.Option("--set", help="stage.field=value, repeatable.")] = None,
    baselines: Annotated[
        bool, typer.Option(help="Also measure a classifier that cannot read definitions.")
    ] = True,
    seed: int = 0,
) -> None:
    """Train a steerable classifier, examine every stage, judge the result. Exit 0 passed, 3 failed, 4 incomplete."""
    from app.pipeline import job
    from app.pipeline.files import read_inputs
    from app.pipeline.presets import plan
    from app.serving.base import find_base

    with _session() as (settings, progress):
        inputs = read_inputs(schema, conversations)
        asked = job.Job(inputs, find_base(base), plan(preset, assign or ()), out, baselines, seed)
        outcome = job.run(asked, settings, progress)
    raise typer.Exit(show_outcome(outcome.report, out))


@cli.command()
def classify(
    model: Annotated[Path, typer.Option(help="The output directory of a run, or its folder `model`.")],
    schema: Annotated[Path, typer.Option(help="The schema to answer by; it may have been edited since.")],
    text: Annotated[str | None, typer.Option(help="One customer message.")] = None,
    conversation: Annotated[
        Path | None, typer.Option(help="One conversation (JSON) or many (JSONL, CSV).")
    ] = None,
    base_url: Annotated[str | None, typer.Option(help="A vLLM that already serves this base model.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Answer conversations with a trained model, through vLLM."""
    from app.pipeline import classify as classification

    with _session() as (settings, progress):
        asked = classification.read(model, schema, text, conversation)
        answered = classification.run(asked, base_url, settings, progress)
    classification.show(answered, asked.schema, Console(highlight=False, soft_wrap=True), as_json=as_json)


@cli.command()
def demo(
    out: Annotated[Path, typer.Option(help="Output directory.")] = Path("out/demo"),
    preset: Annotated[Preset, typer.Option(help="How much work.")] = Preset.demo,
    seed: int = 0,
) -> None:
    """The whole job on a small tenant that is generated here, and an edit that is followed without training."""
    from app.pipeline import demo as demonstration

    with _session() as (settings, progress):
        outcome = demonstration.run(out, preset, seed, settings, progress)
    raise typer.Exit(show_outcome(outcome.report, out, after=outcome.show))


@bench.command()
def starter(
    as_json: Annotated[
        bool, typer.Option("--json", help="Only the JSON object, on standard output.")
    ] = False,
    items: Annotated[int, typer.Option(min=20, help="Questions of each kind.")] = 300,
    seed: int = 0,
) -> None:
    """What the base model that ships can do before any training, asked through vLLM."""
    from app.studies import starter as study

    with _session() as (settings, progress):
        measured = study.measure(items, seed, settings, progress)
    if as_json:
        print(json.dumps({name: one.model_dump() for name, one in measured.items()}, indent=2))
    else:
        Console().print(study.table(measured))


@admin.command()
def bootstrap(
    new: Annotated[bool, typer.Option("--new", help="Make another, although there is a live one.")] = False,
) -> None:
    """Print the first API key of the platform, once: with it tenants and their keys are made."""
    from app.auth import bootstrap as first_key

    with _session() as (settings, _progress):
        made = first_key.run(settings, another=new)
    print(made.text)
    print("This key is shown once and stored nowhere; keep it safe.", file=sys.stderr)


def show_outcome(report: Report, out: Path, after: Callable[[Console], None] | None = None) -> int:
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:  # 80 columns would cut the intervals off
        console.width = max(console.width, 110)
    console.print(stage_table(report))
    for line in verdict_lines(report):
        console.print(line, markup=False)
    if after is not None:
        after(console)
    console.print(
        f"report: {out / 'report.html'} and {out / 'report.json'}; model: {out / 'model'}", markup=False
    )
    assert report.gate is not None
    return _VERDICTS[report.gate.verdict]


@contextmanager
def _session() -> Iterator[tuple[Settings, Reporter]]:
    """Every ending has its own exit code and one clear message; a traceback means that we made a mistake."""
    progress = Reporter()
    before = {number: signal.signal(number, _stopped) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield load_settings(), progress
    except AppError as error:
        progress.close()
        _complain(str(error), *error.details)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        progress.close()
        _complain(
            f"stopped; nothing that was finished is lost. To go on: {shlex.join(['steerwise', *sys.argv[1:]])}"
        )
        raise typer.Exit(STOPPED) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        progress.close()
        _complain("the disk is full; free some space and run the same command again", str(error))
        raise typer.Exit(NoSpace.exit_code) from None
    finally:
        progress.close()
        for number, handler in before.items():
            signal.signal(number, handler)


def _complain(message: str, *details: str) -> None:
    print(f"steerwise: {message}", *(f"  {line}" for line in details), sep="\n", file=sys.stderr)


def _stopped(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> None:
    cli()


if __name__ == "__main__":
    main()
