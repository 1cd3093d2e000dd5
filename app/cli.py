"""One command line: the job on files, the product on this machine, and its API from anywhere."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from app.client.call import ApiKey, Profile, Tenant, Url, calling
from app.client.commands import commands as asking
from app.endings import FAILED, INCOMPLETE, PASSED
from app.endings import session as _session
from app.pipeline.console import stage_table, verdict_lines
from app.runs.presets import Preset
from app.serve.commands import commands as serving
from evaluation.report import Report, Verdict

_VERDICTS = {Verdict.passed: PASSED, Verdict.failed: FAILED, Verdict.incomplete: INCOMPLETE}

cli = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
bench = typer.Typer(no_args_is_help=True, help="Measurements of what ships with the project.")
cli.add_typer(bench, name="bench")
training = typer.Typer(no_args_is_help=True, help="How a run trains.")
cli.add_typer(training, name="train")
studies = typer.Typer(no_args_is_help=True, help="Methods of training compared, over seeds.")
cli.add_typer(studies, name="study")
admin = typer.Typer(no_args_is_help=True, help="For whoever runs the platform, on its own machine.")
cli.add_typer(admin, name="admin")
cli.add_typer(serving)
cli.add_typer(asking)


@cli.command()
def run(
    schema: Annotated[Path, typer.Option(help="The category schema, JSON.")],
    conversations: Annotated[Path, typer.Option(help="Labelled conversations, JSONL or CSV, gzip allowed.")],
    out: Annotated[
        Path | None, typer.Option(help="Output directory; the same one again goes on where it stopped.")
    ] = None,
    preset: Annotated[Preset, typer.Option(help="How much work.")] = Preset.standard,
    base: Annotated[
        str | None,
        typer.Option(help="A model folder or a Hugging Face name, in place of the base that ships."),
    ] = None,
    assign: Annotated[list[str] | None, typer.Option("--set", help="stage.field=value, repeatable.")] = None,
    baselines: Annotated[
        bool, typer.Option(help="Also measure a classifier that cannot read definitions.")
    ] = True,
    seed: int = 0,
    reworded: Annotated[
        list[Path] | None,
        typer.Option(help="The schema in other words, which answers must not change under; repeatable."),
    ] = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Only say how long it would take here, and how much memory.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --estimate: JSON.")] = False,
) -> None:
    """Train a steerable classifier, examine every stage, judge the result. Exit 0 passed, 3 failed, 4 incomplete."""
    if out is None and not estimate:
        raise typer.BadParameter("name an output directory", param_hint="--out")
    if as_json and not estimate:
        raise typer.BadParameter("it belongs to --estimate; a run leaves report.json", param_hint="--json")
    from app.pipeline import estimate as estimation
    from app.pipeline import job
    from app.pipeline.files import read_inputs
    from app.runs.presets import plan
    from app.serving.base import find_base

    with _session() as (settings, progress):
        inputs = read_inputs(schema, conversations, reworded or ())
        found = find_base(base or settings.base, settings.home, progress.note)
        asked = job.Job(inputs, found, plan(preset, assign or ()), out or Path(), baselines, seed)
        if out is None or estimate:
            told = job.estimated(asked)
            if as_json:
                print(json.dumps(told, indent=2))
            else:
                Console(highlight=False).print(estimation.table(told))
            return
        outcome = job.run(asked, settings, progress)
    raise typer.Exit(show_outcome(outcome.report, out))


@cli.command()
def classify(
    schema: Annotated[
        str,
        typer.Option(help="With --model: a file, which may have been edited since. Without: id or name."),
    ],
    model: Annotated[
        Path | None, typer.Option(help="The output directory of a run on files, or its folder `model`.")
    ] = None,
    text: Annotated[str | None, typer.Option(help="One customer message.")] = None,
    conversation: Annotated[
        Path | None, typer.Option(help="One conversation (JSON) or many (JSONL, CSV).")
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(help="With --model: a vLLM that already serves its base model.")
    ] = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Without --model: show the reasoning as it is written.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON; of many answers one a line.")] = False,
    url: Url = None,
    api_key: ApiKey = None,
    tenant: Tenant = None,
    profile: Profile = None,
) -> None:
    """Answer conversations: with what is deployed for a schema, asking the API; or, with --model, with a model on
    this disk, through a vLLM of its own."""
    if model is None:
        from app.client import classify as client

        with calling({"url": url, "api_key": api_key, "tenant": tenant, "profile": profile}, as_json) as call:
            client.run(call, schema, text, conversation, stream=stream)
        return
    from app.pipeline import classify as classification

    with _session() as (settings, progress):
        asked = classification.read(model, Path(schema), text, conversation)
        answered = classification.run(asked, base_url, settings, progress)
    classification.show(answered, asked.schema, Console(highlight=False, soft_wrap=True), as_json=as_json)


@cli.command()
def demo(
    out: Annotated[Path, typer.Option(help="Output directory.")] = Path("out/demo"),
    preset: Annotated[Preset, typer.Option(help="How much work.")] = Preset.demo,
    seed: int = 0,
) -> None:
    """The whole product on a tenant that is generated here: started, trained, judged, deployed, asked, its schema
    edited, asked again, and stopped. Exit 0 the gate passed, 3 failed, 4 incomplete. The same again goes on where it
    stopped."""
    from app.demo import story
    from app.demo.running import KEY, running
    from training.starter.world import demo_tenant

    with _session() as (settings, progress), running(out / "home", settings, progress) as place:
        told = story.Demo(demo_tenant(seed), preset, seed)
        verdict = story.tell(place, told, out, progress)
    home = out / "home"
    print(f"report: {out / 'report.html'} and {out / 'report.json'}")
    print(f"to go on with this tenant: steerwise serve --home {home}, and in another terminal")
    print(f"  export STEERWISE_API_KEY=$(cat {home / KEY}) STEERWISE_TENANT={told.name}")
    if verdict is Verdict.passed:
        print(f'  steerwise classify --schema {told.name} --text "please cancel my zelvo"')
    raise typer.Exit(_VERDICTS[verdict])


@bench.command()
def starter(
    as_json: Annotated[
        bool, typer.Option("--json", help="Only the JSON object, on standard output.")
    ] = False,
    items: Annotated[int, typer.Option(min=20, help="Questions of each kind.")] = 1000,
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


@bench.command()
def api(
    as_json: Annotated[
        bool, typer.Option("--json", help="Only the JSON object, on standard output.")
    ] = False,
    rounds: Annotated[int, typer.Option(min=2, help="Both ways take turns in each, about a minute.")] = 10,
) -> None:
    """What the service costs: the same prompts sent to vLLM directly, and through POST /v1/classify."""
    from app.studies import api as study

    with _session() as (settings, progress):
        speed = study.measure(rounds, settings, progress)
    if as_json:
        print(speed.model_dump_json(indent=2))
    else:
        Console().print(study.table(speed))


@bench.command(name="training")
def bench_training(
    as_json: Annotated[
        bool, typer.Option("--json", help="Only the JSON object, on standard output.")
    ] = False,
    steps: Annotated[
        int, typer.Option(min=2, help="Of each stage in each round; the first is not timed.")
    ] = 5,
    rounds: Annotated[int, typer.Option(min=1, help="Every stage once in each.")] = 3,
) -> None:
    """What the stages cost on the same data: self-distillation beside SFT, RL beside TRL's own."""
    from app.studies import training as study

    with _session() as (settings, progress):
        speed = study.measure(steps, rounds, settings, progress)
    if as_json:
        print(speed.model_dump_json(indent=2))
    else:
        Console().print(study.table(speed))


@bench.command(name="gate")
def bench_gate(
    as_json: Annotated[
        bool, typer.Option("--json", help="Only the JSON object, on standard output.")
    ] = False,
    rounds: Annotated[int, typer.Option(min=2, help="The ways take turns in each, about two minutes.")] = 5,
) -> None:
    """What the gate costs: its questions asked as an examination does, and as fast as the same vLLM answers them."""
    from app.studies import gate_speed as study

    with _session() as (settings, progress):
        speed = study.measure(rounds, settings, progress)
    if as_json:
        print(speed.model_dump_json(indent=2))
    else:
        Console().print(study.table(speed))


@training.command()
def explain(
    preset: Annotated[Preset, typer.Option(help="How much work.")] = Preset.standard,
    assign: Annotated[list[str] | None, typer.Option("--set", help="stage.field=value, repeatable.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Only the JSON object, on standard output.")
    ] = False,
) -> None:
    """Every setting that a run with this preset would have, and where its value comes from."""
    from app.runs.presets import explain as explained

    with _session():
        found = explained(preset, assign or ())
    if as_json:
        print(json.dumps({one.path: {"value": one.value, "from": one.origin} for one in found}, indent=2))
        return
    shown = Table("setting", "value", "from")
    for one in found:
        shown.add_row(one.path, "–" if one.value is None else str(one.value), one.origin)
    Console().print(shown)


@studies.command(name="list")
def list_studies() -> None:
    """The studies that ship."""
    from app.studies import matrix

    for name in matrix.names():
        print(f"{name:<14} {matrix.read(name).title}")


@studies.command(name="run")
def run_study(
    name: Annotated[str, typer.Argument(help="A study that ships (see `study list`), or a file.toml.")],
    out: Annotated[Path, typer.Option(help="Output directory; the same one again goes on where it stopped.")],
    seeds: Annotated[int, typer.Option(min=1, help="Each with a tenant of its own.")] = 3,
) -> None:
    """Train and measure every arm with every seed; a stage that arms share is run once. Writes table.md, results.json
    and plots."""
    from app.studies import comparison, matrix, plots, study

    asked = study.Asked(matrix.read(name), seeds, out)
    with _session() as (settings, progress):
        results = study.run(asked, settings, progress)
        table = comparison.write(asked.study, results, out)
        written = [table, out / "results.json", *plots.write(asked.study, results, out)]
    print(table.read_text())
    print(f"written: {', '.join(map(str, written))}")


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


def show_outcome(report: Report, out: Path) -> int:
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:  # 80 columns would cut the intervals off
        console.width = max(console.width, 110)
    console.print(stage_table(report))
    for line in verdict_lines(report):
        console.print(line, markup=False)
    console.print(
        f"report: {out / 'report.html'} and {out / 'report.json'}; model: {out / 'model'}", markup=False
    )
    assert report.gate is not None
    return _VERDICTS[report.gate.verdict]


def main() -> None:
    cli()


if __name__ == "__main__":
    main()
