"""`steerwise demo`: the main job on a generated tenant, then an edit of its schema that is followed at once."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from app.errors import InputError
from app.pipeline import job
from app.pipeline.answers import Answered, answer, answer_lines
from app.pipeline.benchmark import Served
from app.pipeline.console import Progress
from app.pipeline.files import Inputs, jsonl, read_inputs
from app.pipeline.presets import Preset, plan
from app.serving.base import STARTER, find_base
from app.serving.vllm import Vllm
from app.settings import Settings
from evaluation.contract.perturb import swap
from evaluation.contract.record import Conversation, Split
from evaluation.predictor import Codes
from evaluation.report import Report
from training.starter.world import demo_tenant

_TRIED = 12  # test conversations of each of the two categories


class Shown(NamedTuple):
    """The same conversations under the schema and under its edited form."""

    first: str
    second: str
    before: list[Answered]
    after: list[Answered]


class Demo(NamedTuple):
    report: Report
    show: Callable[[Console], None]


def run(out: Path, preset: Preset, seed: int, settings: Settings, progress: Progress) -> Demo:
    inputs = _tenant(out, seed)
    shown: list[Shown] = []

    async def ask(vllm: Vllm, served: Served, codes: Codes) -> None:
        progress.note("editing two definitions and asking again, without training")
        shown.append(await _edit(vllm, served.model, codes, inputs))

    asked = job.Job(inputs, find_base(STARTER), plan(preset), out, seed=seed)
    outcome = job.run(asked, settings, progress, ask)
    return Demo(outcome.report, lambda console: _show(console, inputs, shown[0]))


def _tenant(out: Path, seed: int) -> Inputs:
    """Written in the upload format and read back like anybody's files, beside the output directory."""
    tenant = demo_tenant(seed)
    folder = out.with_name(f"{out.name}-tenant")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "schema.json").write_text(tenant.category_schema.model_dump_json(indent=2))
        (folder / "conversations.jsonl").write_bytes(jsonl(tenant.conversations))
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror}") from None
    return read_inputs(folder / "schema.json", folder / "conversations.jsonl")


async def _edit(vllm: Vllm, model: str, codes: Codes, inputs: Inputs) -> Shown:
    """The two categories with most test conversations, and of each the first one that is answered rightly."""
    schema, test = inputs.schema, inputs.splits[Split.test]
    first, second = sorted(schema.keys, key=lambda key: -sum(c.category == key for c in test))[:2]
    tried = [c for key in (first, second) for c in [c for c in test if c.category == key][:_TRIED]]
    answers = await answer(vllm.endpoint, model, codes, schema, tried)
    before = [_first_right(answers, key) for key in (first, second)]
    edited = swap(schema, first, second).schema
    after = await answer(vllm.endpoint, model, codes, edited, [a.conversation for a in before])
    return Shown(first, second, before, after)


def _first_right(answers: list[Answered], key: str) -> Answered:
    """Where none is answered rightly the first one is shown as it is."""
    own = [a for a in answers if a.conversation.category == key]
    return next((a for a in own if a.prediction.category == key), own[0])


def _show(console: Console, inputs: Inputs, shown: Shown) -> None:
    schema = inputs.schema
    edited = swap(schema, shown.first, shown.second).schema
    console.print("\nTwo conversations, answered with reasoning:\n", markup=False)
    for answered in shown.before:
        console.print("\n".join([*answer_lines(answered, schema), ""]), markup=False)
    console.print(
        f"Now {shown.first!r} and {shown.second!r} exchange their definitions. Nothing is trained.\n",
        markup=False,
    )
    for answered in shown.after:
        console.print("\n".join([*answer_lines(answered, edited), ""]), markup=False)
    followed = sum(_followed(b, a, shown) for b, a in zip(shown.before, shown.after, strict=True))
    console.print(f"{followed} of {len(shown.after)} answers moved with the definitions.\n", markup=False)


def _followed(before: Answered, after: Answered, shown: Shown) -> bool:
    other = {shown.first: shown.second, shown.second: shown.first}
    return after.prediction.category == other[gold(before.conversation)]


def gold(conversation: Conversation) -> str:
    assert conversation.category is not None
    return conversation.category
