"""`python -m evaluation.retention …` measures what models can still do of what their base could.

The tasks of our own (`--tasks own`) need no network. `--tasks public` asks HellaSwag, TruthfulQA, MMLU, IFEval,
Winogrande and HumanEval, whose data the harness loads. Exit codes: 0 all measured, 4 some task was not measured (the
report says why), 2 bad input.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx

from evaluation.command import BAD_INPUT
from evaluation.metrics.measures import Measure
from evaluation.retention import harness, report
from evaluation.retention.harness import HarnessLimits, RetentionError, Server
from evaluation.retention.report import RetentionReport, StageResults
from evaluation.terminal import complain, say, steady

INCOMPLETE = 4


def main(arguments: Sequence[str] | None = None) -> int:
    steady()
    given = _parser().parse_args(arguments)
    try:
        made = _measured(given)
        report.write(made, given.out)
    except (RetentionError, OSError) as error:
        complain(f"error: {error}")
        return BAD_INPUT
    for stage in made.stages:
        for name, task in stage.tasks.items():
            value = f"not measured: {task.not_measured}" if task.not_measured else _rendered(task.score)
            against = "" if task.retained is None else f", against the base {_rendered(task.retained)}"
            say(f"{stage.stage}: {name}: {value}{against}")
    return INCOMPLETE if any(t.not_measured for s in made.stages for t in s.tasks.values()) else 0


def _measured(given: argparse.Namespace) -> RetentionReport:
    stages = list(map(_stage, given.model))
    if len({stage for stage, _ in stages}) < len(stages):
        raise RetentionError("two models have one stage; write --model STAGE=NAME for each")
    tasks = harness.chosen(given.tasks)
    _serves(given.base_url, [model for _, model in stages])
    asking = HarnessLimits(given.limit, given.concurrency, given.max_length, given.run_code)
    server = Server(given.base_url, given.tokenizer)
    runs = []
    for stage, model in stages:
        complain(f"{stage}: {len(tasks)} tasks")
        runs.append(StageResults(stage, model, harness.measure(server, model, tasks, asking)))
    return report.assemble(runs, harness=version("lm_eval"), limit=given.limit)


def _serves(base_url: str, models: Sequence[str]) -> None:
    """Raises: RetentionError where nothing answers, or what answers says that it has not got a model."""
    root = base_url.rstrip("/").removesuffix("/v1")
    try:
        response = httpx.get(f"{root}/v1/models", timeout=10)
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise RetentionError(f"no model server answers at {base_url}: {error}") from None
    if response.status_code != 200:
        return  # not every server has this route
    try:
        listed: list[Any] = [entry["id"] for entry in response.json()["data"]]
    except (ValueError, KeyError, TypeError):
        return
    missing = [model for model in models if model not in listed]
    if missing:
        raise RetentionError(
            f"the server has no model {', '.join(missing)}; it has {', '.join(map(str, listed))}"
        )


def _stage(text: str) -> tuple[str, str]:
    stage, separator, model = text.partition("=")
    return (stage, model) if separator else ("candidate", text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def _rendered(measure: Measure) -> str:
    if measure.value is None:
        return "nothing"
    interval = "" if measure.ci95 is None else f" ({measure.ci95[0]:.2f} to {measure.ci95[1]:.2f})"
    return f"{measure.value:.2f}{interval}, n = {measure.n}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.retention",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--base-url", required=True, help="of an OpenAI-compatible server, over TCP")
    parser.add_argument(
        "--model",
        action="append",
        required=True,
        metavar="[STAGE=]NAME",
        help="repeatable; the stage `base` is what the others are compared with",
    )
    parser.add_argument(
        "--tokenizer",
        type=Path,
        required=True,
        help="folder with the base model's tokenizer and chat template",
    )
    parser.add_argument(
        "--tasks",
        type=lambda text: text.split(","),
        default=["own"],
        help=f"own, public, or names with commas: {', '.join(t.name for t in (*harness.OWN, *harness.PUBLIC))}; "
        "default: own",
    )
    parser.add_argument(
        "--limit", type=_positive, help="items of each task (of mmlu, of each subject); default: all"
    )
    parser.add_argument("--concurrency", type=_positive, default=8, help="requests at once; default: 8")
    parser.add_argument(
        "--max-length", type=_positive, default=2048, help="tokens of prompt and response; default: 2048"
    )
    parser.add_argument(
        "--run-code", action="store_true", help="allow HumanEval to run what the model wrote on this machine"
    )
    parser.add_argument("--out", type=Path, required=True, help="where to write the report (JSON)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
