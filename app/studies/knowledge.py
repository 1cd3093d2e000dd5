"""Invented facts of a business: what is learned of them, and what is asked afterwards.

Nobody can know them beforehand, so what a model answers it has read. Every fact has two wordings, of which continued
pretraining reads both, and is asked in four ways: `strict`, in the words in which training asks it (and SFT answers
it); `paraphrased`, twice in others; `indirect`, as somebody who needs it asks, without its words. Answers are judged by
their words (`strings`).
"""

import json
from collections.abc import Iterator, Sequence
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from app.errors import InputError
from app.studies.strings import WantedWords, is_said
from evaluation.contract.render import ChatMessage
from training.teachers.privileged import document_hint, hinted

# What stages are given, by the name that a study's file has for it.
TEXTS = "knowledge-texts.jsonl"  # as `text` of an SFT
PROMPTS = "knowledge-prompts.jsonl"  # as `prompts` of an SFT or a distillation
SHOWN_TEXT = "knowledge-text.jsonl"  # as `contexts` of a distillation, and the next two
SHOWN_ANSWER = "knowledge-answer.jsonl"
SHOWN_BOTH = "knowledge-both.jsonl"

_FOLDER = files("app.studies") / "questions"


class FactQuestionKind(StrEnum):
    strict = "strict"
    paraphrased = "paraphrased"
    indirect = "indirect"


class Fact(BaseModel):
    """texts: the fact as a document says it, in other words each time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    texts: tuple[str, ...] = Field(min_length=1)
    question: str
    answer: str
    accepted: tuple[tuple[str, ...], ...] = Field(min_length=1)
    refused: tuple[str, ...] = ()
    paraphrased: tuple[str, ...] = Field(min_length=1)
    indirect: tuple[str, ...] = Field(min_length=1)

    @property
    def wanted(self) -> WantedWords:
        return WantedWords(accepted=self.accepted, refused=self.refused)


class Knowledge(BaseModel):
    """about: the business, as the prompts name it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    about: str
    facts: tuple[Fact, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _can_be_judged(self) -> "Knowledge":
        ids = [fact.id for fact in self.facts]
        if twice := sorted({key for key in ids if ids.count(key) > 1}):
            raise ValueError(f"two facts have the id {twice[0]!r}")
        for fact in self.facts:
            if not is_said(fact.answer, fact.wanted):
                raise ValueError(f"facts.{fact.id}: its answer does not say what is accepted")
            for question in _asked(fact):
                if is_said(question.text, fact.wanted):
                    raise ValueError(f"facts.{fact.id}: this question says its answer: {question.text}")
        return self


class FactQuestion(NamedTuple):
    id: str
    kind: FactQuestionKind
    fact: Fact
    text: str


def read(name: str) -> Knowledge:
    """name: of facts that ship, or the path of a file. Raises: InputError."""
    shipped = _FOLDER / f"{name}.json"
    try:
        text = Path(name).read_text("utf-8") if name.endswith(".json") else shipped.read_text("utf-8")
        return Knowledge.model_validate_json(text)
    except OSError as error:
        raise InputError(
            f"there are no facts {name!r} ({error.strerror}); give the path of a file.json"
        ) from None
    except (ValidationError, UnicodeDecodeError) as error:
        raise InputError(f"the facts {name} cannot be used", [str(error)]) from None


def questions(known: Knowledge) -> list[FactQuestion]:
    """By kind."""
    found = [question for fact in known.facts for question in _asked(fact)]
    return sorted(found, key=lambda question: list(FactQuestionKind).index(question.kind))


def messages(known: Knowledge, text: str) -> list[ChatMessage]:
    return [
        {"role": "system", "content": f"You work for {known.about}. Answer in one short sentence."},
        {"role": "user", "content": text},
    ]


def shown(known: Knowledge, question: FactQuestion) -> list[ChatMessage]:
    """The question to a model that reads what a document says of it."""
    return hinted(messages(known, question.text), document_hint(question.fact.texts[0]))


def written(known: Knowledge) -> dict[str, list[dict[str, Any]]]:
    """Rows of the files that stages are given, by name."""
    prompts = [
        {"id": fact.id, "messages": messages(known, fact.question), "response": fact.answer}
        for fact in known.facts
    ]
    answers = {fact.id: f"{fact.question} {fact.answer}" for fact in known.facts}
    texts = {fact.id: fact.texts[0] for fact in known.facts}
    both = {key: f"{text}\n{answers[key]}" for key, text in texts.items()}
    contexts = {SHOWN_TEXT: texts, SHOWN_ANSWER: answers, SHOWN_BOTH: both}
    return {
        TEXTS: [{"text": text} for fact in known.facts for text in fact.texts],
        PROMPTS: prompts,
        **{name: [{"id": k, "text": t} for k, t in of.items()] for name, of in contexts.items()},
    }


class ToldFact(BaseModel):
    """An answer, as it was written. id: of its question."""

    id: str
    text: str


def rightly_told(asked: Sequence[FactQuestion], found: Sequence[ToldFact]) -> dict[str, list[bool]]:
    """By kind of question. The questions about one fact are taken for independent."""
    right: dict[str, list[bool]] = {kind.value: [] for kind in FactQuestionKind}
    for question, told in zip(asked, found, strict=True):
        right[question.kind.value].append(is_said(told.text, question.fact.wanted))
    return right


def content(known: Knowledge) -> str:
    """Of which results follow."""
    return json.dumps(known.model_dump(mode="json"), sort_keys=True)


def _asked(fact: Fact) -> Iterator[FactQuestion]:
    of_kind = {
        FactQuestionKind.strict: (fact.question,),
        FactQuestionKind.paraphrased: fact.paraphrased,
        FactQuestionKind.indirect: fact.indirect,
    }
    for kind, texts in of_kind.items():
        for number, text in enumerate(texts):
            yield FactQuestion(f"{fact.id}/{kind}/{number}", kind, fact, text)
