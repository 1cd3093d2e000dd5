"""In context: what a model answers once it is shown something, and how far from itself that takes it.

Nothing is trained. Self-distillation rests on this (SDFT's in-context assumption): shown the hint, the teacher must
answer better than the student, and still write much as the student would. The distance is KL(shown || not shown), by
what the model draws at temperature 1 when it is shown the hint: its log-probs there minus those that it gives to the
same words when it is shown nothing, on the first `distances` conversations, since it reads every prompt anew. Each
tenant's own training conversations are asked, with what an expert noted. A seed is another draw of them, and of a
business's halves.
"""

import asyncio
import json
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx
from pydantic import BaseModel

from app.cli.console import Progress
from app.errors import InputError
from app.runs import output
from app.runs.inputs import checked
from app.serving.base import ModelBase, codes_for, digest, find_base
from app.serving.vllm import BASE_NAME, serving, while_alive
from app.settings import Settings
from app.studies import subjects
from app.studies.asking import draw, read
from app.studies.held_out import counting, in_order
from app.studies.kept_answers import whole_lines
from app.studies.matrix import ContextStudy
from app.studies.serving import ANSWER_TIMEOUT_S
from app.studies.subjects import Subject
from app.studies.tables import head, line, of_seeds
from evaluation.atomic_files import write_whole
from evaluation.contract.perturb import identity
from evaluation.contract.record import Conversation, Split
from evaluation.contract.render import ChatMessage
from evaluation.contract.score import is_right
from evaluation.inference.predictor import Codes, VllmPredictor
from evaluation.metrics.measures import Measure, mean, paired_difference, rate
from training.data.examples import Example, Rendering, hint_for
from training.teachers.experts import Expert
from training.teachers.privileged import HintKind, with_hint

_NOTES = 12
"""Of other conversations, in a document."""
_IN_FLIGHT = 16  # at most: reading what was drawn holds a row of the vocabulary for each token of a prompt
_PROBED = 10


class ContextScore(BaseModel):
    """Of a conversation that was shown one thing. written: tokens of the answer; None: the server did not count them.
    nats, tokens: of what was drawn; None where nothing was, or was not asked for."""

    id: str
    shown: HintKind
    right: bool
    written: int | None
    nats: float | None
    tokens: int


class ContextMeasures(BaseModel):
    """written: tokens of an answer. kl_to_unshown: nats a token, a mean over those on which it was asked."""

    accuracy: Measure
    over_unshown: Measure
    kl_to_unshown: Measure
    written: Measure


class SubjectResult(BaseModel):
    """identity: of the base, which changes with its adapter. seeds: in each, by what was shown."""

    subject: str
    base: str
    identity: str
    seeds: list[dict[HintKind, ContextMeasures]]


class _Question(NamedTuple):
    """distance: how far from itself the model writes is asked too."""

    example: Example
    shown: HintKind
    messages: list[ChatMessage]
    distance: bool


class _Draw(NamedTuple):
    """Of a subject, with one seed. kept: the scores, as they come."""

    title: str
    questions: list[_Question]
    codes: Codes
    kept: Path

    def left(self) -> list[_Question]:
        done = _scores(self.kept)
        return [one for one in self.questions if (one.shown, one.example.conversation.id) not in done]

    def measures(self) -> dict[HintKind, ContextMeasures]:
        done = _scores(self.kept)
        return measures_of([done[one.shown, one.example.conversation.id] for one in self.questions])


def run(study: ContextStudy, seeds: int, out: Path, settings: Settings, progress: Progress) -> Path:
    """Writes table.md, results.json and, as they come, the scores; the same command goes on. Returns the table.

    Raises: InputError.
    """
    found = [[subjects.load(source, seed) for seed in range(seeds)] for source in study.subjects]
    for subject, *_ in found:
        if not subject.brought:
            raise InputError(
                f"{subject.name} has no expert whose notes could be shown; give {subjects.EXPERTS}"
            )
    base = find_base(settings.base, settings.home, progress.note)
    with output.opened(out, settings.min_free_mib) as place:
        draws = [
            [_draw(study, one, seed, base, place.root) for seed, one in enumerate(of_seeds)]
            for of_seeds in found
        ]
        _ask([one for of_subject in draws for one in of_subject], base, place.root, settings, progress)
        results = [
            SubjectResult(
                subject=subject.name,
                base=base.name,
                identity=digest(base),
                seeds=[draw.measures() for draw in of_subject],
            )
            for (subject, *_), of_subject in zip(found, draws, strict=True)
        ]
        content = [one.model_dump(mode="json") for one in results]
        write_whole(place.root / "results.json", json.dumps(content, indent=1).encode())
        write_whole(place.root / "table.md", markdown(study, results).encode())
    return out / "table.md"


def markdown(study: ContextStudy, results: Sequence[SubjectResult]) -> str:
    seeds = len(results[0].seeds)
    over = "over the conversations" if seeds == 1 else f"over {seeds} seeds (Student's t)"
    lines = [f"# {study.title}", "", f"95 % intervals {over}; differences are paired."]
    for result in results:
        first = result.seeds[0].values()
        n, far = max(one.accuracy.n for one in first), max(one.kl_to_unshown.n for one in first)
        each = "n" if seeds == 1 else "in each seed n"
        base = f"base {result.base} ({result.identity[:12]})"
        lines += ["", f"{subjects.title(result.subject)}, {base}, {each} = {n} (KL: {far}):", ""]
        lines += head(["shown", "accuracy", "over nothing", "KL to nothing, nats a token", "tokens written"])
        for kind in result.seeds[0]:
            found = [seed[kind] for seed in result.seeds]
            shares = [[getattr(one, name) for one in found] for name in _SHARES]
            written = of_seeds([one.written for one in found], 1)
            lines.append(line([_NAMES[kind], *map(of_seeds, shares), written]))
    return "\n".join(lines) + "\n"


def questions_of(
    study: ContextStudy, subject: Subject, codes: tuple[str, ...], seed: int = 0
) -> list[_Question]:
    """By what is shown, so that prompts that begin alike follow each other."""
    inputs = checked(subject.category_schema, subject.conversations)
    noted = {row["id"]: Expert.model_validate(row) for row in subject.brought or []}
    asked = [c for c in inputs.splits[Split.train] if c.id in noted and not noted[c.id].label_wrong]
    rng = random.Random(f"in-context-{subject.name}-{seed}")
    drawn = rng.sample(asked, min(study.items, len(asked)))
    rendering = Rendering(identity(inputs.schema), codes[: len(inputs.schema.answers)])
    examples = [rendering.example(_told(c, noted[c.id])) for c in drawn]
    documents = {c.id: _document(c, asked, noted, rng) for c in drawn}
    found = []
    for kind in dict.fromkeys((HintKind.none, *study.shown)):
        for number, example in enumerate(examples):
            key = example.conversation.id
            text = documents[key] if kind is HintKind.document else noted[key].response(example)
            messages = with_hint(example.prompt, hint_for(example, kind, text))
            far = kind is not HintKind.none and number < study.distances
            found.append(_Question(example, kind, messages, far))
    return found


def measures_of(scores: Sequence[ContextScore]) -> dict[HintKind, ContextMeasures]:
    by_kind: dict[HintKind, dict[str, ContextScore]] = {}
    for score in scores:
        by_kind.setdefault(score.shown, {})[score.id] = score
    unshown = by_kind[HintKind.none]
    found = {}
    for kind, of_kind in by_kind.items():
        differences = [int(one.right) - int(unshown[key].right) for key, one in of_kind.items()]
        found[kind] = ContextMeasures(
            accuracy=rate(sum(one.right for one in of_kind.values()), len(of_kind)),
            over_unshown=paired_difference(differences),
            kl_to_unshown=mean([o.nats / o.tokens for o in of_kind.values() if o.nats is not None]),
            written=mean([float(one.written) for one in of_kind.values() if one.written is not None]),
        )
    return found


async def score(predictor: VllmPredictor, question: _Question) -> ContextScore:
    example, kind, messages, distance = question
    shown = example.prompt._replace(messages=messages)
    found = await predictor.answer(shown, example.schema, example.conversation)
    nats, tokens = await _distance(predictor, question) if distance else (None, 0)
    return ContextScore(
        id=example.conversation.id,
        shown=kind,
        right=is_right(found, example.gold),
        written=found.completion_tokens,
        nats=nats,
        tokens=tokens,
    )


async def _distance(predictor: VllmPredictor, question: _Question) -> tuple[float | None, int]:
    """In nats, of how many tokens."""
    drawn = await draw(predictor, question.messages, predictor.max_tokens)
    if not drawn.logprobs:
        return None, 0
    unshown = await read(predictor, question.example.prompt.messages, drawn)
    return sum(drawn.logprobs) - unshown, len(drawn.logprobs)


def _draw(study: ContextStudy, subject: Subject, seed: int, base: ModelBase, root: Path) -> _Draw:
    codes = codes_for(base.folder, subject.category_schema).alone()
    asked = study.model_dump_json(exclude={"title", "subjects"})
    key = output.key_of(digest(base), asked, subject.name, str(seed))
    return _Draw(
        f"in context, {subjects.title(subject.name)}, seed {seed}",
        questions_of(study, subject, codes.texts, seed),
        codes,
        root / f"scores-{key[:12]}.jsonl",
    )


def _ask(draws: Sequence[_Draw], base: ModelBase, root: Path, settings: Settings, progress: Progress) -> None:
    """Whatever has no score yet."""
    waiting = [draw for draw in draws if draw.left()]
    if not waiting:
        return
    starting, in_flight = "start vLLM", min(_IN_FLIGHT, settings.concurrency)
    log = root / "vllm.log"
    with serving(base.folder, log, settings, lambda _passed: progress.update(starting, 0, None)) as vllm:
        progress.end(starting)
        for draw in waiting:
            http = vllm.endpoint.async_client(ANSWER_TIMEOUT_S)
            showing = Showing(draw.title, in_flight, progress)
            asyncio.run(while_alive(vllm, _all(draw.left(), draw.codes, http, draw.kept, showing)))
            progress.end(draw.title)


class Showing(NamedTuple):
    """in_flight: questions at once."""

    title: str
    in_flight: int
    progress: Progress


async def _all(
    questions: Sequence[_Question], codes: Codes, http: httpx.AsyncClient, kept: Path, showing: Showing
) -> None:
    """Some questions of every kind come first: by them it is said how long all will take."""
    title, in_flight, progress = showing
    probed, rest = _probe(questions)
    async with http:
        predictor = VllmPredictor(http, BASE_NAME, codes)

        async def one(question: _Question) -> None:
            found = await score(predictor, question)
            with kept.open("a") as file:
                file.write(found.model_dump_json() + "\n")

        started = time.monotonic()
        await in_order(probed, one, in_flight, counting(progress, title, len(questions)))
        minutes = (time.monotonic() - started) / 60 * len(rest) / len(probed)
        progress.note(f"{title}: about {minutes:.0f} minutes for {len(rest)} more questions")
        await in_order(
            rest, one, in_flight, lambda done: progress.update(title, len(probed) + done, len(questions))
        )


def _probe(questions: Sequence[_Question]) -> tuple[list[_Question], list[_Question]]:
    """Some, from the first to the last at even distances, and the others."""
    chosen = {number * len(questions) // _PROBED for number in range(_PROBED)}
    return (
        [one for number, one in enumerate(questions) if number in chosen],
        [one for number, one in enumerate(questions) if number not in chosen],
    )


def _told(conversation: Conversation, noted: Expert) -> Conversation:
    """With the condition that the expert says decided."""
    return conversation.model_copy(update={"criterion": noted.criterion})


def _document(
    conversation: Conversation,
    others: Sequence[Conversation],
    noted: Mapping[str, Expert],
    rng: random.Random,
) -> str:
    """What the expert noted of some other conversations."""
    told = [noted[c.id] for c in others if c.id != conversation.id]
    usable = [one for one in told if one.quote and one.criterion]
    chosen = rng.sample(usable, min(_NOTES, len(usable)))
    return "\n".join(f'"{one.quote}" fits "{one.criterion}"' for one in chosen)


def _scores(file: Path) -> dict[tuple[HintKind, str], ContextScore]:
    """What an earlier call has left; a last line that was cut off is asked again."""
    found = [ContextScore.model_validate_json(line) for line in whole_lines(file)]
    return {(one.shown, one.id): one for one in found}


_SHARES = ("accuracy", "over_unshown", "kl_to_unshown")
_NAMES = {
    HintKind.none: "nothing",
    HintKind.answer: "the answer",
    HintKind.criterion: "the answer and the condition",
    HintKind.demonstration: "the expert's response",
    HintKind.document: "notes on other conversations",
}
