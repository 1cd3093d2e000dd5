"""`python -m evaluation run …` measures models on a schema's own edits; `decide` judges a report under a policy, and
`explain` says why. `baselines` asks the same of what a user would otherwise pick, without any server.

Exit codes of all: 0 passed (baselines: measured), 3 failed, 4 incomplete, 2 bad input.
"""

import argparse
import asyncio
import hashlib
import json
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, TypeVar

import httpx

from evaluation import baselines
from evaluation.atomic_files import write_whole
from evaluation.command import BAD_INPUT, CommandInputError, api_key, check_out, read_conversations, seed
from evaluation.contract.base_note import ADAPTER_LIKENESS
from evaluation.contract.budget import ANSWER_TOKENS
from evaluation.contract.chat import ChatFormError
from evaluation.contract.mode import Mode
from evaluation.contract.overlap import contradictions
from evaluation.contract.record import Conversation, Split
from evaluation.contract.render import CodesError
from evaluation.contract.schema import CategorySchema, SchemaError, parse_schema
from evaluation.formats.reader import Reader
from evaluation.gating import evaluation_run, explain, gate, label_free
from evaluation.gating.evaluation_run import EvaluationRun
from evaluation.gating.label_free import LabelFreeRun
from evaluation.gating.policy import DEFAULT_POLICY, PolicyError, load_policy
from evaluation.inference import stage_client
from evaluation.inference.decision_client import DecisionStageClient
from evaluation.inference.decision_wires import Wire
from evaluation.inference.model_client import check_continues, root_of
from evaluation.inference.predictor import Codes, PredictorError, connect, load_codes
from evaluation.inference.runner import RunnerError
from evaluation.inference.stage_client import ServedStage, StageClient, VllmStageClient
from evaluation.metrics import auxiliary
from evaluation.reporting import assembly, report, summary
from evaluation.reporting.page import page
from evaluation.reporting.report import Report, Verdict
from evaluation.suites import steerability, suite_file
from evaluation.suites.families import SEEN, SuiteError
from evaluation.suites.steerability import Suite, SuiteItem
from evaluation.terminal import complain, say, steady

EXIT = {Verdict.passed: 0, Verdict.failed: 3, Verdict.incomplete: 4}
T = TypeVar("T")


class Told(NamedTuple):
    """measures: what was measured, in lines."""

    verdict: Verdict
    reasons: Sequence[str]
    measures: Sequence[str] = ()


def main(arguments: Sequence[str] | None = None) -> int:
    steady()
    given = _parser().parse_args(arguments)
    try:
        told: Told | None = given.command(given)
    except (
        CommandInputError,
        SchemaError,
        SuiteError,
        RunnerError,
        PolicyError,
        CodesError,
        ChatFormError,
        PredictorError,
        OSError,
    ) as error:
        complain(f"error: {error}")
        return BAD_INPUT
    if told is None:
        return 0
    say(told.verdict.value)
    for reason in told.reasons:
        say(f"- {reason}")
    if told.measures:
        say("", *told.measures)
    return EXIT[told.verdict]


def _run(given: argparse.Namespace) -> Told:
    _check_wire(given)
    if given.concurrency < 1:
        raise CommandInputError("--concurrency: 1 at least")
    served = _served(given)
    for option, written in (("--out", given.out), ("--page", given.page)):
        if written is not None:
            written.parent.mkdir(parents=True, exist_ok=True)  # or it is known before anybody is asked
            check_out(written, option)
    policy = load_policy(given.policy)
    schema = parse_schema(given.schema.read_bytes())
    if given.reworded and "reword" not in given.families:
        raise CommandInputError(
            "--reworded is for the family reword; add it to --families, or leave that option out"
        )
    conversations = _conversations(given.conversations, schema)
    held_out = _of_split(conversations, given.split)
    if held_out and not any(c.labelled and c.category in schema.answers for c in held_out):
        return _without_labels(
            given,
            served,
            LabelFreeRun(
                schema,
                held_out,
                label_free.needed(policy),
                dict(map(_rewording, given.reworded)),
                given.seed,
                given.max_items,
            ),
        )
    suite = _suite(given, schema, held_out)
    auxiliary_suites = auxiliary.build(
        suite,
        held_out,
        _of_split(conversations, Split.calibration),
        seed=given.seed,
        max_items=given.max_items,
    )
    evaluation = EvaluationRun(
        given.tenant or schema.name,
        suite,
        policy,
        auxiliary_suites,
        given.threshold,
        baselines.measure(suite, _learned_from(conversations, given.split), policy.families.counted),
        given.mode,
        base_needed=False,
    )
    codes = _codes(given, _most_answers(evaluation))
    made = _kept(
        asyncio.run(_asked(given, served, codes, lambda client: evaluation_run.evaluate(evaluation, client))),
        given,
    )
    return _told(made)._replace(measures=summary.of_report(made))


def _without_labels(given: argparse.Namespace, served: Sequence[ServedStage], run: LabelFreeRun) -> Told:
    """No report: there is nothing to judge. What could be measured is written in its place."""
    codes = _codes(given, len(run.schema.answers) + 1)
    found = asyncio.run(_asked(given, served, codes, lambda client: label_free.measure(run, client)))
    written = {"verdict": Verdict.incomplete, "label_free": found.model_dump(mode="json")}
    given.out.write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return Told(Verdict.incomplete, label_free.reasons(found))


def _baselines(given: argparse.Namespace) -> None:
    schema = parse_schema(given.schema.read_bytes())
    if given.out is not None:
        check_out(given.out)
    conversations = _conversations(given.conversations, schema)
    suite = _suite(given, schema, _of_split(conversations, given.split))
    left_out = _left_out(given.without, suite.items)
    suite = suite._replace(items=tuple(one for one in suite.items if one.conversation_id not in left_out))
    learned = _learned_from(conversations, given.split)
    found = baselines.reports_of(suite, learned, load_policy(given.policy).families.counted)
    complain(f"{len(suite.items)} questions; {len(learned)} labels to learn from")
    say(*summary.of_stages(found.reports), *report.not_measured(found.left_out))
    if given.out is not None:
        written = {
            "suite_sha256": suite.sha256,
            "items": len(suite.items),
            "labels": len(learned),
            "baselines": {
                name: {shown: getattr(made, shown).model_dump() for shown in baselines.SHOWN}
                for name, made in found.reports.items()
            },
            "left_out": found.left_out,
        }
        write_whole(given.out, json.dumps(written, indent=1).encode() + b"\n")


def _told(made: Report) -> Told:
    assert made.gate is not None
    return Told(made.gate.verdict, [*made.gate.reasons, *gate.not_judged(made.gate)])


def _check_wire(given: argparse.Namespace) -> None:
    """Raises: InputError."""
    if given.wire is None and given.tokenizer is None:
        raise CommandInputError("--tokenizer: name the folder with the base model's tokenizer.json")
    if given.wire is not None and given.adapter:
        raise CommandInputError(
            f"--adapter: what the wire {given.wire} answers is decided there; leave it out"
        )
    if given.wire is not None and given.mode is Mode.reasoned:
        raise CommandInputError(f"--mode: the wire {given.wire} answers at once; leave that option out")
    if given.mode is None:
        given.mode = Mode.reasoned if given.wire is None else Mode.fast


def _suite(given: argparse.Namespace, schema: CategorySchema, held_out: Sequence[Conversation]) -> Suite:
    if given.suite is not None and given.suite.exists():
        complain(f"asking the suite in {given.suite}, whatever options of building one say")
        return suite_file.read(given.suite, schema, held_out)
    suite = steerability.build(
        schema,
        held_out,
        seed=given.seed,
        max_items=given.max_items,
        families=given.families,
        rewordings=dict(map(_rewording, given.reworded)),
    )
    if given.suite is not None:
        suite_file.write(suite, given.suite)
    return suite


def _left_out(path: Path | None, items: Sequence[SuiteItem]) -> set[str]:
    """Of conversations with labels in doubt, the ids. Raises: CommandInputError."""
    if path is None:
        return set()
    asked, doubted = {item.conversation_id for item in items}, _ids(path)
    complain(f"{len(asked & doubted)} of {len(asked)} conversations left out")
    if asked <= doubted:
        raise CommandInputError(f"--without {path}: nothing is left to measure")
    return doubted


def _ids(path: Path) -> set[str]:
    """One a line: a JSON object with `id`, as in labels-to-review.jsonl, or the id alone. Raises: CommandInputError."""
    found = set[str]()
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        try:
            text = line.decode().strip()
            found.add(str(json.loads(text)["id"]) if text.startswith("{") else text)
        except (ValueError, KeyError):
            raise CommandInputError(f"--without {path}: line {number} has no id") from None
    return found - {""}


def _decide(given: argparse.Namespace) -> Told:
    made = _decided(given)
    return _told(made)._replace(measures=summary.of_report(made) if given.without is not None else ())


def _decided(given: argparse.Namespace) -> Report:
    try:
        made = report.read(given.report)
    except ValueError as error:
        raise CommandInputError(f"{given.report} is not a report of this version: {error}") from None
    policy = load_policy(given.policy)
    if given.without is not None and (given.out is not None or given.page is not None):
        raise CommandInputError("--without judges and writes nothing: a report is of all that was asked")
    left_out = _left_out(given.without, made.suite.items)
    scored = assembly.rescore(made, policy.families.counted, left_out)
    decided = gate.decide(scored, policy, base_needed=False)
    return _kept(scored.model_copy(update={"gate": decided}), given)


def _explain(given: argparse.Namespace) -> Told:
    made = _decided(given)
    say(*explain.lines(made), end="\n\n")
    return _told(made)


def _kept(made: Report, given: argparse.Namespace) -> Report:
    made = report.without_words(made) if given.without_words else made
    if given.out is not None:
        report.write(made, given.out)
    if given.page is not None:
        given.page.write_text(page.render(made), encoding="utf-8")
    return made


def _codes(given: argparse.Namespace, answers: int) -> Codes | None:
    """For so many answers at most. None: the server is asked for none."""
    return None if given.wire is not None else load_codes(given.tokenizer, answers)


async def _asked(
    given: argparse.Namespace,
    served: Sequence[ServedStage],
    codes: Codes | None,
    work: Callable[[StageClient], Awaitable[T]],
) -> T:
    key = api_key(given.api_key_env)
    async with connect(given.base_url, socket_path=given.socket, api_key=key) as client:
        with _folder(given.keep) as folder:
            settings = stage_client.ClientSettings(
                folder, _progress, given.concurrency, given.max_tokens, given.mode, complain=complain
            )
            if codes is None:
                decisions = DecisionStageClient(client, served, given.wire, settings)
                await decisions.check()
                return await work(decisions)
            if given.mode is Mode.fast:
                for one in served:
                    await check_continues(client, one.model)
            return await work(VllmStageClient(client, served, codes, settings))


def _most_answers(evaluation: EvaluationRun) -> int:
    """Some edits add an answer, and schemas of others may have more."""
    others = evaluation.auxiliary_suites.out_of_distribution.schemas if evaluation.auxiliary_suites else ()
    return max(len(evaluation.suite.schema.answers) + 1, *(len(schema.answers) for schema in others), 0)


def _served(given: argparse.Namespace) -> list[ServedStage]:
    """Raises: InputError."""
    server = _server(given)
    served = {
        stage: ServedStage(stage, model, model, server=server) for stage, model in map(_stage, given.model)
    }
    if len(served) < len(given.model):
        raise CommandInputError("--model: two stages have one name; call them STAGE=NAME")
    for stage, name in map(_stage, given.adapter):
        encoder = Path(name) / ADAPTER_LIKENESS
        if stage not in served:
            raise CommandInputError(f"--adapter: --model names no stage {stage!r}; write STAGE=FOLDER")
        if not encoder.is_file():
            raise CommandInputError(
                f"--adapter: {encoder} is missing; leave out an adapter that brings no sentence encoder"
            )
        version = f"{served[stage].model} with {hashlib.sha256(encoder.read_bytes()).hexdigest()}"
        served[stage] = served[stage]._replace(version=version, adapter=encoder.parent)
    return list(served.values())


def _server(given: argparse.Namespace) -> str:
    """Its address, without a password in it, since answers are kept under it. Raises: InputError."""
    try:
        url = httpx.URL(root_of(given.base_url))
    except httpx.InvalidURL as error:
        raise CommandInputError(
            f"--base-url {given.base_url!r} is no address of a server ({error}); write http://HOST:PORT"
        ) from None
    if url.scheme not in ("http", "https") or not url.host:
        raise CommandInputError(
            f"--base-url {given.base_url!r} is no address of a server; write http://HOST:PORT"
        )
    return f"unix:{Path(given.socket).resolve()}" if given.socket else str(url.copy_with(userinfo=b""))


@contextmanager
def _folder(wanted: Path | None) -> Iterator[Path]:
    """For the answers, which the next look goes on from."""
    if wanted is not None:
        yield wanted
        return
    with TemporaryDirectory(prefix="steerwise-evaluation-") as folder:
        yield Path(folder)


def _rewording(path: Path) -> tuple[str, CategorySchema]:
    try:
        return path.name, parse_schema(path.read_bytes())
    except SchemaError as error:
        raise CommandInputError(f"{path} cannot be used as a rewording: {error}") from None


def _stage(text: str) -> tuple[str, str]:
    stage, separator, model = text.partition("=")
    return (stage, model) if separator else ("candidate", text)


def _progress(stage: str, done: int, total: int) -> None:
    if done == total or done % 100 == 0:
        complain(f"{stage}: {done} of {total}")


def _conversations(path: Path, schema: CategorySchema) -> list[Conversation]:
    """Without those that are labelled in more than one way: no answer to them is right."""
    found = read_conversations(Reader(path, schema), path, rejects=True)
    disputed = {c.id for one in contradictions(c for c in found if c.labelled) for c in one.conversations}
    if disputed:
        complain(f"{len(disputed)} conversations left out: their like has another label")
    return [c for c in found if c.id not in disputed]


def _of_split(conversations: Sequence[Conversation], split: Split) -> list[Conversation]:
    """Of a file that names no splits every row is held out."""
    if all(c.split is None for c in conversations):
        return list(conversations) if split is not Split.calibration else []
    return [c for c in conversations if c.split is split]


def _learned_from(conversations: Sequence[Conversation], asked_of: Split) -> list[Conversation]:
    """By a baseline: what the file itself gives to training, and never what is asked."""
    if asked_of is Split.train:
        return []
    return [c for c in conversations if c.split is Split.train and c.labelled]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m evaluation", description=__doc__)
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run", help="measure one or more models and judge the last")
    run.add_argument("--base-url", default="http://localhost:8000")
    run.add_argument("--socket", help="Unix socket of the model server, instead of a TCP port")
    run.add_argument(
        "--model", action="append", required=True, metavar="[STAGE=]NAME", help="repeatable, in order"
    )
    run.add_argument(
        "--adapter",
        action="append",
        default=[],
        metavar="[STAGE=]FOLDER",
        help="that this stage answers with: a sentence encoder that was trained with it is heard; repeatable",
    )
    run.add_argument("--api-key-env", metavar="NAME", help="environment variable with the key of --base-url")
    run.add_argument(
        "--wire",
        type=Wire,
        choices=list(Wire),
        help="ask a server of typed decisions, at /v1/systemone or /v1/decisions; default: chat completions",
    )
    run.add_argument(
        "--tokenizer",
        type=Path,
        help="folder with the base model's tokenizer.json; not with --wire, which needs none",
    )
    run.add_argument("--tenant", help="default: the schema's name")
    run.add_argument("--max-tokens", type=int, default=ANSWER_TOKENS)
    run.add_argument("--concurrency", type=int, default=32)
    run.add_argument(
        "--mode",
        type=Mode,
        choices=list(Mode),
        help="how answers are come by: with reasoning, or the code at once; default: reasoned, with --wire fast",
    )
    run.add_argument("--threshold", type=float, help="abstain below this confidence")
    run.add_argument(
        "--keep",
        type=Path,
        help="folder for single outcomes, by server and model; a killed run goes on from there",
    )
    run.add_argument("--out", type=Path, required=True)
    run.set_defaults(command=_run)
    apart = commands.add_parser(
        "baselines", help="measure what a user would otherwise pick on the same questions; asks no server"
    )
    apart.add_argument("--out", type=Path, help="where to write what was measured, as JSON")
    apart.add_argument("--policy", type=Path, default=DEFAULT_POLICY, help="says which families count")
    apart.set_defaults(command=_baselines)
    for asking in (run, apart):
        _add_questions(asking)
    decide = commands.add_parser("decide", help="judge a report")
    decide.add_argument("--report", type=Path, required=True)
    decide.add_argument("--out", type=Path, help="where to write the report with this verdict")
    decide.set_defaults(command=_decide)
    explained = commands.add_parser("explain", help="say why a report's verdict is what it is")
    explained.add_argument("--report", type=Path, required=True)
    explained.add_argument("--out", type=Path, help="where to write the report with this verdict")
    explained.set_defaults(command=_explain)
    for command in (apart, decide, explained):
        command.add_argument(
            "--without",
            type=Path,
            metavar="FILE",
            help="ids of conversations that count for nothing, one a line, or objects with `id` as in "
            "labels-to-review.jsonl: what is measured without labels in doubt",
        )
    for command in (run, decide, explained):
        command.add_argument("--policy", type=Path, default=DEFAULT_POLICY)
        command.add_argument("--page", type=Path, help="where to write the report as one HTML page")
        command.add_argument(
            "--without-words",
            action="store_true",
            help="leave out what customers wrote, of a report that is to be passed on",
        )
    return parser


def _add_questions(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--schema", type=Path, required=True)
    parser.add_argument("--conversations", type=Path, required=True, help="labelled, JSONL or CSV")
    parser.add_argument("--split", type=Split, default=Split.test, help="default: test")
    parser.add_argument(
        "--suite",
        type=Path,
        help="a file with what is asked, the same for every model; where it does not exist it is built and written",
    )
    parser.add_argument("--seed", type=seed, default=0)
    parser.add_argument("--max-items", type=int, default=1200, help="requests per model")
    parser.add_argument(
        "--families",
        type=lambda text: text.split(","),
        default=list(SEEN),
        help=f"with commas, of {', '.join(SEEN)}; default: all",
    )
    parser.add_argument(
        "--reworded",
        type=Path,
        action="append",
        default=[],
        metavar="SCHEMA",
        help="the schema in other words, for the family `reword`; repeatable",
    )


if __name__ == "__main__":
    sys.exit(main())
