"""`python -m evaluation.tools.reword …` has a teacher say a schema's categories in other words, for the
family `reword`.

Whether they still mean the same is tried as `evaluation.tools.equivalence` says. Without conversations the rewording is
written unverified.

Exit codes: 0 written; 2 bad input; 3 the teacher's words cannot be used, or mean something else; 4 a server did not
answer, or the grader cannot tell. Nothing is written but with 0.
"""

import argparse
import asyncio
import json
import re
import sys
from collections.abc import Sequence
from difflib import SequenceMatcher
from pathlib import Path

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from evaluation.command import CommandInputError, api_key, check_out, exit_code, read_conversations
from evaluation.contract.record import Conversation, first_problem
from evaluation.contract.schema import Category, CategorySchema, parse_schema
from evaluation.formats.reader import Reader
from evaluation.inference import completions
from evaluation.inference.http import Retries
from evaluation.inference.model_client import ROUTE, Sending, connect, post
from evaluation.inference.predictor import PredictorError, VllmPredictor, load_codes
from evaluation.terminal import steady
from evaluation.tools.equivalence import SLACK, Grader, NotGraded, to_try

ATTEMPTS = 4  # at an answer that can be used, for each category
SENDING = Sending(Retries(attempts=4, backoff_s=1.0))
ROUNDS = 3  # of grading; after each but the last, what has changed is worded again
MOST_ALIKE = 0.85  # words in common; in nine rewordings of real schemas by people it is 0.80 at most
INSTRUCTION = """\
You say a category, by which conversations of customers are sorted, in other words. Write the definition and every \
condition anew, as another author would have put them: other verbs, another order, plain and about as long. What fits \
must stay exactly the same, nothing wider and nothing narrower; numbers and quoted phrases stay as they are.
Answer with one JSON object and nothing else: {"definition": "…", "includes": ["…"], "excludes": ["…"]}, with as many \
includes and excludes as are given, in their order."""


class NotReworded(Exception):
    """The teacher's words cannot be used, or mean something else."""


class Words(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    definition: str
    includes: list[str]
    excludes: list[str]


class Teacher:
    def __init__(
        self, client: httpx.AsyncClient, model: str, *, at_once: int = 8, sending: Sending = SENDING
    ):
        """client: of any server with OpenAI's chat completions (`evaluation.inference.predictor.connect` makes one)."""
        self._client, self._model, self._sending = client, model, sending
        self._places = asyncio.Semaphore(at_once)

    async def reword(self, category: Category, misread: Sequence[Category] = ()) -> Category:
        """misread: earlier rewordings that meant something else. Raises: NotReworded, PredictorError."""
        asked = category.model_dump_json(exclude={"key"})
        messages = [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": asked}]
        for earlier in misread:
            words = earlier.model_dump_json(exclude={"key", "name"})
            messages += _corrected(words, "other conversations fit this description")
        problem = ""
        for _ in range(ATTEMPTS):
            text = await self._say(messages)
            try:
                return read_words(text, category)
            except ValueError as error:
                problem = str(error)
                messages += _corrected(text, problem)
        raise NotReworded(f"category {category.key!r}: none of {ATTEMPTS} answers can be used: {problem}")

    async def _say(self, messages: list[dict[str, str]]) -> str:
        body = {"model": self._model, "messages": messages}
        try:
            async with self._places:
                return completions.read(await post(self._client, ROUTE, body, self._sending)).text
        except PredictorError as error:
            raise PredictorError(f"the teacher: {error}", error.status) from error


def read_words(text: str, category: Category) -> Category:
    """The category in the words of a teacher's answer. Raises: ValueError, which says what to do better."""
    try:
        words = Words.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(f"not the JSON object that was asked for: {first_problem(error)}") from None
    for field in ("includes", "excludes"):
        wanted, got = len(getattr(category, field)), len(getattr(words, field))
        if wanted != got:
            raise ValueError(f"{field}: there are {got}, and must be {wanted}")
    (reworded,) = parse_schema({"categories": [category.model_dump() | words.model_dump()]}).categories
    for before, after in zip(_sentences(category), _sentences(reworded), strict=True):
        if alike(before, after) > MOST_ALIKE:
            raise ValueError(f"these are the words of the original: {after!r}")
    return reworded


def alike(one: str, other: str) -> float:
    """Share of both texts' words that stand in the same order in both."""
    first, second = (re.findall(r"\w+", text.casefold()) for text in (one, other))
    return SequenceMatcher(None, first, second, autojunk=False).ratio()


async def reword(
    schema: CategorySchema, teacher: Teacher, grader: Grader | None
) -> tuple[CategorySchema, str]:
    """grader: prepared. With a sentence on what is known of the meaning.

    Raises: NotReworded, NotGraded, PredictorError.
    """
    made: dict[str, Category] = {}
    misread: dict[str, list[Category]] = {key: [] for key in schema.keys}
    wanted, problem = list(schema.keys), ""
    for _ in range(ROUNDS):
        new = await asyncio.gather(*(teacher.reword(schema.category(key), misread[key]) for key in wanted))
        made |= dict(zip(wanted, new, strict=True))
        reworded = schema.model_copy(update={"categories": tuple(made[key] for key in schema.keys)})
        if grader is None:
            return reworded, "unverified: no conversations were given to try the meaning with"
        found = await grader.find(reworded)
        if grader.accepts(found):
            return reworded, f"verified: {found.sentence}"
        wanted = await grader.to_blame(reworded, found)
        problem = f"{found.sentence}; it is for {', '.join(wanted)}"
        for key in wanted:
            misread[key].append(made[key])
    raise NotReworded(f"after {ROUNDS} rounds the words still mean something else: {problem}")


def _corrected(answer: str, problem: str) -> list[dict[str, str]]:
    again = f"That cannot be used: {problem}. Answer again, with the JSON object alone."
    return [{"role": "assistant", "content": answer[:4000]}, {"role": "user", "content": again}]


def _sentences(category: Category) -> tuple[str, ...]:
    return (category.definition, *category.includes, *category.excludes)


def main(arguments: Sequence[str] | None = None) -> int:
    steady()
    return exit_code(_run(_parser().parse_args(arguments)), {NotReworded: 3, NotGraded: 4, PredictorError: 4})


async def _run(given: argparse.Namespace) -> str:
    schema = parse_schema(given.schema.read_bytes())
    check_out(given.out)
    key = api_key(given.api_key_env)
    grader_url = given.grader_url or given.base_url
    async with (
        connect(given.base_url, api_key=key) as client,
        connect(grader_url, api_key=None if given.grader_url else key) as grader_client,
    ):
        grader = await _grader(given, schema, grader_client)
        reworded, sentence = await reword(schema, Teacher(client, given.model), grader)
    text = json.dumps(reworded.model_dump(), ensure_ascii=False, indent=1)
    given.out.write_text(text + "\n", encoding="utf-8")
    return f"{given.out}: {sentence}"


async def _grader(given: argparse.Namespace, schema: CategorySchema, at: httpx.AsyncClient) -> Grader | None:
    if (given.conversations is None) != (given.tokenizer is None):
        raise CommandInputError(
            "--conversations and --tokenizer go together: a grader answers in its model's codes"
        )
    if given.conversations is None:
        return None
    if len(schema.answers) < 2:
        raise CommandInputError(
            "the schema has one answer, which every grader gives; leave --conversations out"
        )
    if not SLACK < given.least_agreement <= 1:
        raise CommandInputError(f"--least-agreement: above {SLACK}, and 1 at most")
    if not (given.tokenizer / "tokenizer.json").is_file():
        raise CommandInputError(f"{given.tokenizer} has no tokenizer.json")
    codes = load_codes(given.tokenizer, len(schema.answers))
    chosen = to_try(_labelled(given.conversations, schema), schema, given.per_category)
    if not chosen:
        raise CommandInputError(
            f"{given.conversations}: no labelled conversation has the split train or validation"
        )
    grader = Grader(VllmPredictor(at, given.grader or given.model, codes), schema, given.least_agreement)
    await grader.prepare(chosen)
    return grader


def _labelled(path: Path, schema: CategorySchema) -> list[Conversation]:
    return [c for c in read_conversations(Reader(path, schema), path, rejects=True) if c.labelled]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m evaluation.tools.reword", description=__doc__)
    add = parser.add_argument
    add("--schema", type=Path, required=True)
    add("--base-url", default="http://localhost:8000", help="the teacher's server")
    add("--model", required=True, help="the teacher")
    add("--api-key-env", metavar="NAME", help="environment variable with the key of --base-url")
    add("--conversations", type=Path, help="labelled, JSONL or CSV, with splits; without, it is unverified")
    add("--grader", help="model that answers them; default: the teacher")
    add("--grader-url", help="its server, which is sent no key; default: --base-url")
    add("--tokenizer", type=Path, help="folder with the grader's tokenizer.json")
    add("--least-agreement", type=float, default=0.9, help="of the grader's answers; default: 0.9")
    add("--per-category", type=int, default=20, help="conversations of each at most; default: 20")
    add("--out", type=Path, required=True)
    return parser


if __name__ == "__main__":
    sys.exit(main())
