"""One command line: the job on files, the product on this machine, and its API from anywhere."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich.table import Table

from app.cli.client.call import ApiKey, Profile, Tenant, Url, calling
from app.cli.client.commands import commands as asking
from app.cli.console import stage_table, verdict_lines
from app.cli.endings import FAILED, INCOMPLETE, PASSED
from app.cli.endings import session as _session
from app.cli.terminal import Terminal
from app.errors import InputError
from app.faults.commands import faults
from app.infra.private import keep_files_private
from app.local.commands import commands as serving
from app.runs.presets import Preset
from evaluation.contract.mode import Mode, ModeChoice
from evaluation.contract.seeds import MAX_SEED
from evaluation.reporting.report import Report, Verdict
from evaluation.terminal import complain, json_text, say, steady

_VERDICTS = {Verdict.passed: PASSED, Verdict.failed: FAILED, Verdict.incomplete: INCOMPLETE}

AsJson = Annotated[bool, typer.Option("--json", help="Only the JSON object, on standard output.")]
Seed = Annotated[int, typer.Option(help="Of everything random.", min=0, max=MAX_SEED)]
SampledTenants = Annotated[
    list[str] | None,
    typer.Option(
        "--tenant",
        help="A folder with schema.json and conversations.jsonl, or business:NAME of those that ship; repeatable. "
        "(default: the three that are large enough for a gate)",
    ),
]
SampledBase = Annotated[
    str | None,
    typer.Option("--base", help="A model folder or a Hugging Face name, in place of the base that ships."),
]


class Orders(StrEnum):
    """Halved again and again it is 1."""

    two = "2"
    four = "4"
    eight = "8"


cli = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
bench = typer.Typer(no_args_is_help=True, help="Measurements of what ships with the project.")
cli.add_typer(bench, name="bench")
training = typer.Typer(no_args_is_help=True, help="How a run trains.")
cli.add_typer(training, name="train")
studies = typer.Typer(no_args_is_help=True, help="Methods of training compared, over seeds.")
cli.add_typer(studies, name="study")
admin = typer.Typer(no_args_is_help=True, help="For whoever runs the platform, on its own machine.")
cli.add_typer(admin, name="admin")
cli.add_typer(faults, name="faults")
cli.add_typer(serving)
cli.add_typer(asking)


@cli.command()
def run(
    schema: Annotated[Path, typer.Option(help="The category schema, JSON.")],
    conversations: Annotated[Path, typer.Option(help="Labelled conversations; its bytes say in which form.")],
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
        bool, typer.Option(help="Also measure classifiers that cannot read definitions.")
    ] = True,
    seed: Seed = 0,
    mode: Annotated[
        Mode, typer.Option(help="In which the stages are evaluated and the model answers.")
    ] = Mode.reasoned,
    reworded: Annotated[
        list[Path] | None, typer.Option(help="The schema in other words: no answer may change; repeatable.")
    ] = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Only say how long it would take here, and how much memory.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --estimate: JSON.")] = False,
) -> None:
    """Train a steerable classifier, evaluate every stage, decide by the gate. Exit 0 passed, 3 failed, 4 incomplete."""
    if out is None and not estimate:
        raise typer.BadParameter("name an output directory", param_hint="--out")
    if as_json and not estimate:
        raise typer.BadParameter("it belongs to --estimate; a run leaves report.json", param_hint="--json")
    from app.cli import estimate as estimation
    from app.cli import run as job
    from app.cli.files import read_inputs
    from app.runs import teachers
    from app.runs.presets import plan
    from app.serving.base import find_base

    with _session() as (settings, progress):
        planned = plan(preset, assign or ())
        planned = planned.model_copy(update={"traces": teachers.resolved(planned.traces, settings)})
        inputs = read_inputs(schema, conversations, reworded or ())
        found = find_base(base or settings.base, settings.home, progress.note)
        asked = job.FileRun(inputs, found, planned, out or Path(), baselines, seed, mode)
        if out is None or estimate:
            told = job.estimated(asked)
            if as_json:
                say(json_text(told, indent=2))
            else:
                Terminal(soft_wrap=False).print(estimation.table(told))
            return
        outcome = job.run(asked, settings, progress)
    raise typer.Exit(show_outcome(outcome.report, out))


@cli.command(name="check-file")
def check_file(
    file: Annotated[Path, typer.Argument(help="Of conversations, in any form that is read; gzip allowed.")],
    schema: Annotated[Path | None, typer.Option(help="JSON; labels are checked against it.")] = None,
    as_json: AsJson = False,
) -> None:
    """What a file was taken for, what it holds, and what would be lost. Exit 0 every row can be used, 2 not every."""
    from app.cli import check

    with _session():
        found = check.check(file, schema).model_dump(mode="json")
    say(*([json_text(found, indent=2)] if as_json else check.lines(found)))
    raise typer.Exit(InputError.exit_code if found["problem"] or found["rejected"] else PASSED)


@cli.command()
def classify(
    schema: Annotated[
        str,
        typer.Option(help="A file, which may have been edited since; or id or name, of the product's."),
    ],
    model: Annotated[
        Path | None, typer.Option(help="The output directory of a run on files, or its folder `model`.")
    ] = None,
    text: Annotated[str | None, typer.Option(help="One customer message.")] = None,
    conversation: Annotated[Path | None, typer.Option(help="A file of one conversation or of many.")] = None,
    base: Annotated[
        str | None, typer.Option(help="A schema file without --model: a base in place of the one that ships.")
    ] = None,
    base_url: Annotated[str | None, typer.Option(help="A schema file: a vLLM that serves the base.")] = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Without --model: show the reasoning as it is written.")
    ] = False,
    mode: Annotated[
        ModeChoice | None,
        typer.Option(
            help="Reasoned; fast: the code at once; or, of the product's, auto: reasoned where fast is unsure. By "
            "default the one it was evaluated in, or is deployed in."
        ),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Give what is answered at once its reasons too, afterwards.")
    ] = False,
    version: Annotated[
        str | None,
        typer.Option(
            help="Of the product's schema: answer by this one, with the base as it stands (gate: none), if it is not "
            "live.",
            metavar="NUMBER|draft",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON; of many answers one a line.")] = False,
    url: Url = None,
    api_key: ApiKey = None,
    tenant: Tenant = None,
    profile: Profile = None,
) -> None:
    """Answer conversations: with what is deployed for a schema, asking the API; or, under a schema file, through a vLLM
    of its own, with --model and a model on this disk, or without one label by the base as it stands."""
    if model is None and not Path(schema).is_file():
        from app.cli.client import classify as client

        with calling({"url": url, "api_key": api_key, "tenant": tenant, "profile": profile}, as_json) as call:
            client.run(
                call, schema, client.ApiQuestion(text, conversation, mode, version, explain), stream=stream
            )
        return
    from app.cli import classify as classification

    with _session() as (settings, progress):
        if version is not None:
            raise InputError(f"--version is of a schema of the product's, and {schema} is a file")
        if mode is ModeChoice.auto:
            raise InputError("--mode auto needs what gates in both modes have found, which the product keeps")
        question = classification.FileQuestion(
            Path(schema), text, conversation, None if mode is None else Mode(mode), explain
        )
        if model is None:
            name = base or settings.base
            asked = classification.read_untrained(name, question, settings, progress)
        else:
            asked = classification.read(model, question, settings)
        answered = classification.run(asked, base_url, settings, progress)
    classification.show(answered, asked, Terminal(), as_json=as_json)


@cli.command()
def demo(
    out: Annotated[Path, typer.Option(help="Output directory.")] = Path("out/demo"),
    preset: Annotated[Preset, typer.Option(help="How much work.")] = Preset.demo,
    seed: Seed = 0,
) -> None:
    """The whole product on a shop that ships, with labels for half of its conversations: started, trained, judged,
    deployed, asked, its schema edited, asked again, and stopped. Exit 0 the gate passed, 3 failed, 4 incomplete. The
    same again goes on where it stopped."""
    from app.local.demo import story
    from app.local.demo.running import KEY, running
    from app.local.demo.tenant import shop_demo

    with _session() as (settings, progress), running(out / "home", settings, progress) as place:
        asked = shop_demo(preset, seed)
        verdict = story.tell(place, asked, out, progress)
    home = out / "home"
    say(f"report: {out / 'report.html'} and {out / 'report.json'}")
    say(f"to go on with this tenant: steerwise serve --home {home}, and in another terminal")
    say(f"  export STEERWISE_API_KEY=$(cat {home / KEY}) STEERWISE_TENANT={asked.name}")
    if verdict is Verdict.passed:
        say(f'  steerwise classify --schema {asked.name} --text "my tablet never came"')
    raise typer.Exit(_VERDICTS[verdict])


@bench.command(name="base")
def bench_base(
    as_json: AsJson = False,
    base: Annotated[
        str | None,
        typer.Option(help="A model folder or a Hugging Face name, in place of the base that ships."),
    ] = None,
    data: Annotated[Path, typer.Option(help="The folder with corpus/ and tenants/.")] = Path(
        "../shared/data"
    ),
    items: Annotated[int, typer.Option(min=4, help="Utterances under intents never trained.")] = 500,
    of_business: Annotated[int, typer.Option(min=1, help="Conversations of each business.")] = 100,
    of_tenant: Annotated[int, typer.Option(min=1, help="Test conversations of each tenant.")] = 150,
    seed: Seed = 0,
) -> None:
    """What the base can do as it stands, with reasons and at once, without one label of a tenant."""
    from app.serving.base import find_base
    from app.studies import base as study
    from app.studies.base_items import ItemCounts, paper

    with _session() as (settings, progress):
        found = find_base(base or settings.base, settings.home, progress.note)
        asked = paper(data, ItemCounts(items, of_business, of_tenant), seed)
        measured = study.measure(asked, found, settings, progress)
    if as_json:
        say(json_text(study.as_json(measured), indent=2))
    else:
        Terminal(soft_wrap=False).print(study.table(measured))


@bench.command()
def starter(
    as_json: AsJson = False,
    items: Annotated[int, typer.Option(min=20, help="Questions of each kind.")] = 1000,
    seed: Seed = 0,
) -> None:
    """What the starter, the model of the tests, can do, asked through vLLM."""
    from app.studies import starter as study

    with _session() as (settings, progress):
        measured = study.measure(items, seed, settings, progress)
    if as_json:
        say(json_text({name: one.model_dump() for name, one in measured.items()}, indent=2))
    else:
        Terminal(soft_wrap=False).print(study.table(measured))


@bench.command()
def api(
    as_json: AsJson = False,
    rounds: Annotated[int, typer.Option(min=2, help="Both arms take turns in each, about a minute.")] = 10,
) -> None:
    """What the service costs: the same prompts sent to vLLM directly, and through POST /v1/classify."""
    from app.studies import api as study

    with _session() as (settings, progress):
        speed = study.measure(rounds, settings, progress)
    _measured(speed, study.table, as_json)


@bench.command()
def neighbours(
    as_json: AsJson = False,
    rounds: Annotated[int, typer.Option(min=2, help="Cycles of a quiet one and one of each noise.")] = 6,
    requests: Annotated[int, typer.Option(min=20, help="Of the quiet tenant in each.")] = 60,
    noise: Annotated[
        list[str] | None,
        typer.Option(
            help="classify, batches, uploads, runs, streams or adapters; repeatable; by default all."
        ),
    ] = None,
) -> None:
    """What one tenant feels of another that asks for all it can get, before a model server of fixed latency."""
    from app.studies import neighbours as study
    from app.studies.noise import KINDS

    with _session() as (settings, progress):
        found = study.measure(rounds, requests, settings, progress, noise or tuple(KINDS))
    _measured(found, study.table, as_json)


@bench.command()
def security(
    as_json: AsJson = False,
    short: Annotated[
        bool, typer.Option("--short", help="About a minute, fewer cases, no vLLM: what the tests run.")
    ] = False,
    scale: Annotated[
        float, typer.Option(help="Part of the long bench's cases.", min=0.0001, max=1, metavar="PART")
    ] = 1.0,
    only: Annotated[list[str] | None, typer.Option(help="A check, by its name; repeatable.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="A folder in which what was found is kept, slice by slice; the same one again, with the same seed, "
            "goes on where it stopped."
        ),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Attacks on an installation of its own: rights of every operation, requests that are made up, histories, hostile
    bodies and files, a noisy neighbour, deleted words, leaks between tenants. Exit 0 nothing found, 3 something, 4 not
    everything could be tried."""
    with _session() as (settings, progress):
        try:
            from app.studies.security import bench as study
        except ImportError as error:
            raise InputError(
                f"{error.name} is not installed; what this bench needs besides the product is its extra `dev`"
            ) from None
        order = study.SecurityOrder(seed, short, scale, tuple(only or ()))
        found = study.measure(order, out, settings, progress)
    _measured(found, study.table, as_json)
    if found.failures:
        raise typer.Exit(FAILED)
    if not short and any(check.skipped for check in found.checks):
        raise typer.Exit(INCOMPLETE)


@bench.command(name="training")
def bench_training(
    as_json: AsJson = False,
    steps: Annotated[
        int, typer.Option(min=2, help="Of each stage in each round; the first is not timed.")
    ] = 5,
    rounds: Annotated[int, typer.Option(min=1, help="Every stage once in each.")] = 3,
) -> None:
    """What the stages cost on the same data: self-distillation beside SFT, RL beside TRL's own."""
    from app.studies import training as study

    with _session() as (settings, progress):
        speed = study.measure(steps, rounds, settings, progress)
    _measured(speed, study.table, as_json)


@bench.command(name="gate")
def bench_gate(
    as_json: AsJson = False,
    rounds: Annotated[int, typer.Option(min=2, help="The arms take turns in each, about two minutes.")] = 5,
) -> None:
    """What the gate costs: its questions asked as an evaluation does, and as fast as the same vLLM answers them."""
    from app.studies import gate_speed as study

    with _session() as (settings, progress):
        speed = study.measure(rounds, settings, progress)
    _measured(speed, study.table, as_json)


@bench.command(name="modes")
def bench_modes(
    schema: Annotated[Path, typer.Option(help="Of one tenant, as for a run.")],
    conversations: Annotated[Path, typer.Option(help="Labelled ones; those held out are asked.")],
    model: Annotated[
        Path | None, typer.Option(help="The output directory of a run. (default: the base as it stands)")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="Without --model: a base in place of the one that ships.")
    ] = None,
    items: Annotated[int, typer.Option(min=20, help="Requests in each mode.")] = 600,
    as_json: AsJson = False,
    seed: Seed = 0,
) -> None:
    """What the modes reasoned, fast and auto cost and what they are worth, on one tenant in one run."""
    from app.studies import modes as study

    with _session() as (settings, progress):
        asked = study.ModesRequest(schema, conversations, model, base or settings.base, items, seed)
        measured = study.measure(study.prepared(asked, settings, progress), settings, progress)
    _measured(measured, study.table, as_json)


@bench.command(name="auto")
def bench_auto(
    as_json: AsJson = False,
    tenant: SampledTenants = None,
    base: SampledBase = None,
    of_tenant: Annotated[int, typer.Option(min=1, help="Conversations of each that count.")] = 200,
    tuning: Annotated[
        int | None,
        typer.Option(min=1, help="Others of each, for its threshold. By default as many as it needs."),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Whether mode auto is as good as the better one of fast and reasoned, by the base as it stands, over tenants."""
    from app.serving.base import find_base
    from app.studies import auto as study
    from app.studies import samples

    with _session() as (settings, progress):
        drawn = samples.draw(tenant or samples.SHIPPED, of_tenant, tuning or study.TUNING, seed)
        found = find_base(base or settings.base, settings.home, progress.note)
        measured = study.measure(drawn, found, settings, progress)
    _measured(measured, study.table, as_json)


@bench.command(name="orders")
def bench_orders(
    as_json: AsJson = False,
    tenant: SampledTenants = None,
    base: SampledBase = None,
    of_tenant: Annotated[int, typer.Option(min=1, help="Conversations of each.")] = 100,
    shuffles: Annotated[int, typer.Option(min=2, help="Random orders that are compared.")] = 4,
    orders: Annotated[
        Orders, typer.Option(help="Places at which each is begun, over which answers are averaged.")
    ] = Orders.four,
    mode: Annotated[Mode, typer.Option(help="With reasoning, or the code at once.")] = Mode.fast,
    seed: Seed = 0,
) -> None:
    """How often another order of the categories brings another answer, and what averaging over orders brings."""
    from app.serving.base import find_base
    from app.studies import orders as study
    from app.studies import samples

    with _session() as (settings, progress):
        drawn = samples.draw(tenant or samples.SHIPPED, of_tenant, 0, seed)
        asked = study.OrdersRequest(drawn, shuffles, int(orders), mode, seed)
        found = find_base(base or settings.base, settings.home, progress.note)
        measured = study.measure(asked, found, settings, progress)
    _measured(measured, study.table, as_json)


@bench.command(name="vllm")
def bench_vllm(
    as_json: AsJson = False,
    base: Annotated[
        str | None,
        typer.Option(help="A model folder or a Hugging Face name, in place of the base that ships."),
    ] = None,
    answers: Annotated[int, typer.Option(min=1, help="In each round.")] = 48,
    in_flight: Annotated[int, typer.Option(min=1, help="Asked at once.")] = 24,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    mode: Annotated[Mode, typer.Option(help="With reasoning, or the code at once.")] = Mode.reasoned,
) -> None:
    """How fast a base answers through vLLM, as it is started on this machine."""
    from app.serving.base import find_base
    from app.studies import vllm_speed as study

    with _session() as (settings, progress):
        found = find_base(base or settings.base, settings.home, progress.note)
        speed = study.measure(found, study.SpeedRequest(answers, in_flight, rounds, mode), settings, progress)
    _measured(speed, study.table, as_json)


@training.command()
def explain(
    preset: Annotated[Preset, typer.Option(help="How much work.")] = Preset.standard,
    assign: Annotated[list[str] | None, typer.Option("--set", help="stage.field=value, repeatable.")] = None,
    as_json: AsJson = False,
) -> None:
    """Every setting that a run with this preset would have, and where its value comes from."""
    from app.runs.presets import explain as explained

    with _session():
        found = explained(preset, assign or ())
    if as_json:
        say(json_text({one.path: {"value": one.value, "from": one.origin} for one in found}, indent=2))
        return
    shown = Table("setting", "value", "from")
    for one in found:
        shown.add_row(one.path, "–" if one.value is None else str(one.value), one.origin)
    Terminal(soft_wrap=False).print(shown)


@studies.command(name="list")
def list_studies() -> None:
    """The studies that ship."""
    from app.studies import matrix

    for name in matrix.names():
        say(f"{name:<14} {matrix.read(name).title}")


@studies.command(name="run")
def run_study(
    name: Annotated[str, typer.Argument(help="A study that ships (see `study list`), or a file.toml.")],
    out: Annotated[Path, typer.Option(help="Output directory; the same one again goes on where it stopped.")],
    seeds: Annotated[
        int,
        typer.Option(
            min=1,
            help="Each with another draw of its tenant, of its split, or of what is asked.",
        ),
    ] = 3,
    tenant: Annotated[
        list[str] | None,
        typer.Option(
            help="Whom it is about instead: `business:NAME` of those that ship, or a folder with schema.json, "
            "conversations.jsonl and experts.jsonl. Once for each tenant of the study."
        ),
    ] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(help="Only this one, and the one that it is compared with; may be said several times."),
    ] = None,
) -> None:
    """Train and measure every arm with every seed; a stage that arms share is run once. Writes table.md, results.json
    and plots."""
    from app.studies import comparison, in_context, matrix, plots, study

    with _session() as (settings, progress):
        chosen = matrix.read(name)
        chosen = chosen.about(tuple(tenant)) if tenant else chosen
        if isinstance(chosen, matrix.ContextStudy):
            if arm:
                raise InputError(f"the study {name} has no arms; leave --arm out")
            table = in_context.run(chosen, seeds, out, settings, progress)
            say(table.read_text())
            say(f"written: {table}, {out / 'results.json'}")
            return
        chosen = chosen.only(tuple(arm)) if arm else chosen
        asked = study.StudyRequest(chosen, seeds, out)
        results = study.run(asked, settings, progress)
        table = comparison.write(asked.study, results, out)
        written = [table, out / "results.json", *plots.write(asked.study, results, out)]
    say(table.read_text())
    say(f"written: {', '.join(map(str, written))}")


@admin.command()
def bootstrap(
    new: Annotated[bool, typer.Option("--new", help="Make another, although there is a live one.")] = False,
) -> None:
    """Print the first API key of the platform, once: with it tenants and their keys are made."""
    from app.auth import bootstrap as first_key

    with _session() as (settings, _progress):
        keep_files_private()
        made = first_key.run(settings, another=new)
    say(made.text)
    complain("This key is shown once and stored nowhere; keep it safe.")


def _measured(speed: BaseModel, shown: Callable[[Any], Table], as_json: bool) -> None:
    if as_json:
        say(speed.model_dump_json(indent=2))
    else:
        Terminal(soft_wrap=False).print(shown(speed))


def show_outcome(report: Report, out: Path) -> int:
    console = Terminal()
    console.print(stage_table(report))
    for line in verdict_lines(report):
        console.print(line, markup=False)
    console.print(
        f"report: {out / 'report.html'} and {out / 'report.json'}; model: {out / 'model'}", markup=False
    )
    assert report.gate is not None
    return _VERDICTS[report.gate.verdict]


def main() -> None:
    steady()
    cli()


if __name__ == "__main__":
    main()
