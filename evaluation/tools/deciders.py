"""`python -m evaluation.tools.deciders …` has a teacher find the includes that decide labels, for the family
`boundary`.

The teacher answers each conversation several times, in the contract's own form. As the predictor asks without chance
(temperature 0), every reading has the categories, and their includes, in another order: what a place in the prompt led
to comes out differently then. A label that names its `criterion`, or whose decider can be checked, is not asked about.

Exit codes: 0 written; 2 bad input; 4 a server did not answer. Nothing is written but with 0.
"""

import argparse
import asyncio
import itertools
import json
import random
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from evaluation.command import CommandInputError, api_key, check_out, exit_code, read_conversations
from evaluation.contract import perturb
from evaluation.contract.record import Conversation, Split
from evaluation.contract.schema import CategorySchema, parse_schema
from evaluation.contract.score import is_right
from evaluation.formats.reader import Reader
from evaluation.inference.predictor import (
    Prediction,
    Predictor,
    PredictorError,
    VllmPredictor,
    connect,
    load_codes,
)
from evaluation.inference.runner import Progress
from evaluation.suites.deciders import decider
from evaluation.terminal import complain, steady

ENOUGH = 3  # readings that agree; all of them, where there are fewer
DRAWS = 20  # for each order; a small schema has fewer of them than readings are wanted


class SourceRow(NamedTuple):
    """A row of the file: raw as it came, and as it was read."""

    raw: Mapping[str, Any]
    conversation: Conversation


def agreed(label: str | None, readings: Sequence[Prediction]) -> str | None:
    """The include that enough readings name, with true quotes; None also where another that is right names another."""
    right = [one for one in readings if is_right(one, label)]
    named = [(c.text, one.evidence or ()) for one in right if (c := one.decided_by) and c.kind == "include"]
    quoted = [text for text, evidence in named if evidence]
    if len({text for text, _ in named}) != 1 or len(quoted) < min(ENOUGH, len(readings)):
        return None
    return quoted[0]


def orders(schema: CategorySchema, count: int) -> list[CategorySchema]:
    """The schema as it is and in other orders, all different: fewer than `count` where there are no more."""
    rng, found = random.Random(0), {schema: None}
    for _ in range(count * DRAWS):
        if len(found) < count:
            found[_reordered(schema, rng)] = None
    return list(found)


async def find(
    asked: Sequence[Conversation], schemas: Sequence[CategorySchema], teacher: Predictor, progress: Progress
) -> dict[str, str]:
    """Includes, by the ids of conversations. Raises: PredictorError, at the first answer that does not come."""
    answers: dict[str, list[Prediction]] = {c.id: [] for c in asked}
    done = itertools.count(1)

    async def read(schema: CategorySchema, conversation: Conversation) -> None:
        try:
            answers[conversation.id].append(await teacher.predict(schema, conversation))
        except PredictorError as error:
            raise PredictorError(f"the teacher, of conversation {conversation.id!r}: {error}") from error
        progress(next(done), len(asked) * len(schemas))

    for schema in schemas:  # one after another, so that requests that share a prompt prefix go together
        await asyncio.gather(*(read(schema, conversation) for conversation in asked))
    found = {c.id: agreed(c.category, answers[c.id]) for c in asked}
    return {identity: text for identity, text in found.items() if text is not None}


def _reordered(schema: CategorySchema, rng: random.Random) -> CategorySchema:
    shuffled = perturb.shuffle(schema, rng).schema
    categories = (
        c.model_copy(update={"includes": tuple(rng.sample(c.includes, len(c.includes)))})
        for c in shuffled.categories
    )
    return shuffled.model_copy(update={"categories": tuple(categories)})


def main(arguments: Sequence[str] | None = None) -> int:
    steady()
    return exit_code(_run(_parser().parse_args(arguments)), {PredictorError: 4})


async def _run(given: argparse.Namespace) -> str:
    schema = parse_schema(given.schema.read_bytes())
    check_out(given.out)
    if given.samples < 1:
        raise CommandInputError("--samples: 1 at least")
    key = api_key(given.api_key_env)
    if not (given.tokenizer / "tokenizer.json").is_file():
        raise CommandInputError(f"{given.tokenizer} has no tokenizer.json")
    codes = load_codes(given.tokenizer, len(schema.answers))
    rows = _rows(given.conversations, schema)
    asked = _to_ask([one.conversation for one in rows], schema, given.split)
    if not asked:
        raise CommandInputError(
            f"{given.conversations}: no label of the split {given.split} is of a category with includes and leaves "
            "open which of them decided it"
        )
    schemas = orders(schema, given.samples)
    if len(schemas) < given.samples:
        complain(f"the schema has {len(schemas)} orders, so it is read as often")
    async with connect(given.base_url, api_key=key) as client:
        found = await find(asked, schemas, VllmPredictor(client, given.model, codes), _progress)
    lines = (_line(one, found) for one in rows)
    # Half a surrogate pair, which JSON can name and UTF-8 cannot hold, is named as it was.
    given.out.write_text("".join(lines), encoding="utf-8", errors="backslashreplace")
    return f"{given.out}: {_sentence(asked, found)}"


def _rows(path: Path, schema: CategorySchema) -> list[SourceRow]:
    """Every row, as none may be missing in what is written, nor what is said in one."""
    reader = Reader(path, schema, keep_originals=True)
    conversations = read_conversations(reader, path)
    if reader.originals:
        return [SourceRow(*pair) for pair in zip(reader.originals, conversations, strict=True)]
    if lost := "; ".join(reader.unread.sentences()):
        raise CommandInputError(f"{path}: what is not read would be lost; give JSONL ({lost})")
    return [SourceRow(c.model_dump(mode="json", exclude_unset=True), c) for c in conversations]


def _to_ask(rows: Sequence[Conversation], schema: CategorySchema, split: Split) -> list[Conversation]:
    """Of a file that names no splits every row may be."""
    whole = all(c.split is None for c in rows)
    with_includes = {category.key for category in schema.categories if category.includes}
    own = [c for c in rows if c.category in with_includes and (whole or c.split is split)]
    return [c for c in own if decider(schema, c) is None]


def _line(one: SourceRow, found: Mapping[str, str]) -> str:
    include = found.get(one.conversation.id)
    raw = one.raw if include is None else {**one.raw, "criterion": include}
    return json.dumps(raw, ensure_ascii=False) + "\n"


def _sentence(asked: Sequence[Conversation], found: Mapping[str, str]) -> str:
    total = Counter(c.category for c in asked)
    known = Counter(c.category for c in asked if c.id in found)
    each = ", ".join(f"{key} {known[key]} of {count}" for key, count in total.items())
    return f"the deciding include was found for {len(found)} of {len(asked)} labels ({each})"


def _progress(done: int, total: int) -> None:
    if done == total or done % 100 == 0:
        complain(f"teacher: {done} of {total}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m evaluation.tools.deciders", description=__doc__)
    add = parser.add_argument
    add("--schema", type=Path, required=True)
    add("--conversations", type=Path, required=True, help="labelled, JSONL or CSV")
    add("--split", type=Split, default=Split.test, help="default: test; without splits it is every row")
    add("--base-url", default="http://localhost:8000", help="the teacher's server")
    add("--model", required=True, help="the teacher")
    add("--api-key-env", metavar="NAME", help="environment variable with the key of --base-url")
    add("--tokenizer", type=Path, required=True, help="folder with the teacher's tokenizer.json")
    add("--samples", type=int, default=4, help="how often each conversation is read; default: 4")
    add("--out", type=Path, required=True, help="the conversations again, as JSONL")
    return parser


if __name__ == "__main__":
    sys.exit(main())
