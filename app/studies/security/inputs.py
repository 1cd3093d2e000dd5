"""What strangers hand in, read by the code that reads it: files of conversations in every form, schemas, and what a
model wrote under a schema of a stranger. Whatever it is, it is read or refused, soon and in little memory.
"""

import json
import random
import resource
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeVar

from pydantic import ValidationError
from tokenizers import Tokenizer

from app.serving.base import STARTER, find_base
from app.studies.security.lab import Lab, schema_with
from app.studies.security.results import SliceFound
from app.studies.security.samples import TEXTS, spoilt, swelling
from evaluation.contract import parse
from evaluation.contract.record import Conversation
from evaluation.contract.render import ANSWER_MARK, FAST_PREFIX, render
from evaluation.contract.schema import CategorySchema, SchemaError, parse_schema
from evaluation.formats.incoming import Unreadable
from evaluation.formats.reader import Reader
from evaluation.formats.redaction import Redaction
from evaluation.inference.tokenizer_files import TOKENIZER, Codes, load_codes

T = TypeVar("T")

MAX_INPUT_S = 0.5  # of processor time, for a small input
MAX_GROWTH_MIB = 128  # of the whole process, over a slice of small inputs
MAX_SWELLING_S = 20.0  # of processor time, for a file of a few MiB
MAX_SWELLING_MIB = 192
_MOST_ANSWERS = 6
_WORDS = (
    *TEXTS, "refund", "Refund", "none of these", "A", "B", "C", "AA", FAST_PREFIX, "\n", f"{ANSWER_MARK} A", '"', "“",
    "”", "=", "not A", "because", "The customer says", "This fits A", "`", "*", "#", "<", ">", " ", "\t", "\r",
    "</think>", "x" * 500, " " * 500, "\n" * 200, "aé" * 100, '"ab"' * 100, "answer " * 50,
)  # fmt: skip


class AnsweredText(NamedTuple):
    """What a model may have written, under a schema and for a conversation of strangers."""

    schema: CategorySchema
    conversation: Conversation
    text: str


def run_files(_lab: Lab, seed: int, size: int) -> SliceFound:
    """Of the parser of uploads. size: files."""
    drawn, schema = random.Random(seed), schema_with("parcel")
    with tempfile.TemporaryDirectory(prefix="steerwise-inputs-") as folder:
        path = Path(folder) / "upload"

        def read(content: bytes) -> str | None:
            path.write_bytes(content)
            return read_file(path, schema if len(content) % 2 else None)

        return tried((spoilt(drawn) for _ in range(size)), read)


def run_swelling(_lab: Lab, _seed: int, size: int) -> SliceFound:
    """Of the parser of uploads: all files there are that are made to become large, or to take long. size: in KiB, about
    how long they are.
    """
    cases, failures, highest, longest = 0, list[str](), 0.0, 0.0
    with tempfile.TemporaryDirectory(prefix="steerwise-inputs-") as folder:
        path = Path(folder) / "upload"
        for one in swelling(size << 10):
            path.write_bytes(one.content)
            peak_mib, took_s, wrong = _measured(lambda: read_file(path, None))
            cases, highest, longest = cases + 1, max(highest, peak_mib), max(longest, took_s)
            if peak_mib > MAX_SWELLING_MIB:
                wrong = f"took {peak_mib:.0f} MiB"
            elif took_s > MAX_SWELLING_S:
                wrong = f"took {took_s:.1f} s of processor time"
            if wrong is not None:
                failures.append(f"{one.name}: {wrong}")
    return SliceFound(cases, failures, {"peak_mib": highest, "longest_s": longest})


def run_contract(_lab: Lab, seed: int, size: int) -> SliceFound:
    """Of the contract's parse and render. size: inputs."""
    drawn = random.Random(seed)
    return tried((answered_text(drawn) for _ in range(size)), read_answer)


def tried(inputs: Iterable[T], read: Callable[[T], str | None]) -> SliceFound:
    """read: gives what is wrong, if anything; whatever it raises is wrong too."""
    cases, failures, longest = 0, list[str](), 0.0
    before = _resident_mib()
    for one in inputs:
        began = time.thread_time()
        try:
            wrong = read(one)
        except Exception as error:  # noqa: BLE001 (which is what was looked for)
            wrong = f"{type(error).__name__}: {error}"
        took = time.thread_time() - began
        cases, longest = cases + 1, max(longest, took)
        if took > MAX_INPUT_S:
            wrong = f"took {took:.2f} s of processor time"
        if wrong is not None:
            failures.append(f"{wrong[:200]} of {repr(one)[:300]}")
    growth = _resident_mib() - before
    if growth > MAX_GROWTH_MIB:
        failures.append(f"{cases} inputs made the process {growth:.0f} MiB larger")
    return SliceFound(cases, failures, {"longest_s": longest, "growth_mib": growth})


def read_file(path: Path, schema: CategorySchema | None) -> str | None:
    """What is wrong with how a file was read; None where it was read or refused."""
    try:
        for one in Reader(path, schema, redaction=Redaction.names_too):
            told = one.model_dump(mode="json") if isinstance(one, Conversation) else one._asdict()
            json.dumps(told, ensure_ascii=False).encode()  # as it is spooled
    except Unreadable:
        return None
    return None


def answered_text(drawn: random.Random) -> AnsweredText:
    def text(most: int) -> str:
        return "".join(drawn.choice(_WORDS) for _ in range(drawn.randrange(1, most)))

    categories = [
        {"key": f"k{number}{drawn.choice(TEXTS)}"[:100], "name": text(3)[:200], "definition": text(6)[:2000]}
        | {name: [text(4)[:2000] for _ in range(drawn.randrange(3))] for name in ("includes", "excludes")}
        for number in range(drawn.choice((1, 2, 3, _MOST_ANSWERS - 1)))
    ]
    stated = {"name": text(2), "none_of_these": drawn.random() < 0.5, "categories": categories}
    try:
        schema = parse_schema(json.dumps(stated))
    except SchemaError:
        schema = _fallback()
    roles = ("customer", "agent", "system")
    messages = [{"role": drawn.choice(roles), "text": text(20)} for _ in range(drawn.choice((1, 2, 5)))]
    try:
        conversation = Conversation.model_validate({"id": "1", "messages": messages})
    except ValidationError:
        conversation = Conversation.model_validate(
            {"id": "1", "messages": [{"role": "customer", "text": "a"}]}
        )
    return AnsweredText(schema, conversation, text(30))


def read_answer(given: AnsweredText) -> str | None:
    schema, text = given.schema, given.text
    codes = _codes()
    answer = parse.parse(text, schema, codes.texts)
    if answer.failure is None and answer.category not in schema.answers:
        return f"answered {answer.category!r}, which the schema does not have"
    shown = parse.settled(text)
    if answer.failure is None and not answer.reasoning.startswith(shown):
        return "showed reasoning, while it was written, that is not in the answer"
    at = parse.code_at(text)
    if at is not None and not text[at : at + 1].isalpha():
        return f"found a code at {at}, where no word begins"
    parse.forced_prefix(text)
    for quote in parse.evidence(answer.reasoning, given.conversation):
        if not 0 <= quote.message_index < len(given.conversation.messages):
            return "quotes a message that is not there"
    decided = parse.decided_by(answer.reasoning, schema, answer.category)
    if decided is not None and decided.key != answer.category:
        return "names a condition of another category"
    return _steering(given)


def _steering(given: AnsweredText) -> str | None:
    """Of the prompt: nothing that strangers wrote steers the model."""
    codes, tokenizer, control = _codes(), *_tokenizer()
    prompt = render(given.schema, given.conversation, codes.texts)
    for message in codes.form.messages(prompt.messages):
        # The tokenizer takes no half of a surrogate pair, and no conversation that comes in holds one.
        content = message["content"].encode("utf-8", "replace").decode()
        if control & set(tokenizer.encode(content, add_special_tokens=False).ids):
            return f"the {message['role']} message holds a control token"
    user = prompt.messages[-1]["content"]
    if user.count("<conversation>") != 1 or user.count("</conversation>") != 1:
        return "a text opens or ends the conversation"
    return None


def _measured(read: Callable[[], str | None]) -> tuple[float, float, str | None]:
    """MiB at its highest, seconds of processor time, and what is wrong. Read twice: counting memory takes time."""
    try:
        began = time.thread_time()
        wrong = read()
        took_s = time.thread_time() - began
        tracemalloc.start()
        read()
        return tracemalloc.get_traced_memory()[1] / (1 << 20), took_s, wrong
    except Exception as error:  # noqa: BLE001 (which is what was looked for)
        return 0.0, 0.0, f"{type(error).__name__}: {error}"
    finally:
        tracemalloc.stop()


def _resident_mib() -> float:
    """At its highest so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@cache
def _codes() -> Codes:
    return load_codes(find_base(STARTER).folder, _MOST_ANSWERS)


@cache
def _tokenizer() -> tuple[Tokenizer, frozenset[int]]:
    """Of the starter, and its control tokens."""
    found = Tokenizer.from_file(str(find_base(STARTER).folder / TOKENIZER))
    ids = (found.token_to_id(token) for token in _codes().form.control)
    return found, frozenset(number for number in ids if number is not None)


@cache
def _fallback() -> CategorySchema:
    return schema_with("parcel")
