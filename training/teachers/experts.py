"""Traces that a tenant brings, written by people who know its conversations or by another model. Torch-free.

A line says what decided: {"id", "quote", "criterion"}, with `set_aside` ([{"key", "exclude"}]) where an exclude took
a neighbour away. Or it is a whole response, {"id", "text"}, in which the key of a category, or `(none)`, stands where
a model writes its code (or, with `codes`, those codes, in the schema's order, as a traces.jsonl has them). With
`label_wrong` it says that the label contradicts the schema. Other fields are not read.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from pydantic import AliasChoices, BaseModel, Field, ValidationError

from evaluation.contract.render import ANSWER_MARK, NONE_TEXT
from evaluation.contract.schema import NONE_WORD, CategorySchema
from training.artifacts import StageFailed
from training.base.answers import reasoned
from training.data.examples import Example, Trace, retarget
from training.protocol import FailureCode
from training.starter import problems

_SHOWN = 10


class SetAside(BaseModel):
    key: str
    exclude: str


class Expert(BaseModel):
    id: str
    quote: str | None = None
    gist: str = ""
    criterion: str | None = None
    set_aside: tuple[SetAside, ...] = ()
    text: str | None = Field(default=None, validation_alias=AliasChoices("text", "completion"))
    codes: tuple[str, ...] | None = None
    label_wrong: bool = False

    def response(self, example: Example) -> str:
        """With the codes of `example`, which shows the tenant's own schema. Raises: ValueError with what is missing."""
        schema, codes = example.schema, example.prompt.codes
        if self.text is None:
            return reasoned(self._problem(example), schema, codes)
        if self.codes is None:
            return _with_codes(self.text, schema, codes)
        if len(self.codes) != len(schema.answers):
            raise ValueError(f"it has {len(self.codes)} codes, and the schema {len(schema.answers)} answers")
        trace = Trace(self.id, example.prompt.messages, self.text, self.codes, example.gold, "", 0)
        text = retarget(trace, schema, example)
        if text is None:
            raise ValueError("which of its words are codes cannot be told, or it contradicts itself")
        return text

    def _problem(self, example: Example) -> problems.ProblemExample:
        decider = self.criterion or (NONE_TEXT if example.gold is None else None)
        if not self.quote or decider is None:
            raise ValueError("it has no text, and not both a quote and a criterion")
        unknown = [aside.key for aside in self.set_aside if aside.key not in example.schema.keys]
        if unknown:
            raise ValueError(f"set_aside names {unknown[0]!r}, which is no category of the schema")
        aside = tuple((aside.key, "", aside.exclude) for aside in self.set_aside)
        verdict = problems.ConditionVerdict(example.gold, decider, aside)
        quote = self.quote.replace('"', "").strip()
        return problems.ProblemExample(example.conversation, (quote,), self.gist, verdict)


def read(files: Sequence[Path]) -> list[tuple[str, Expert]]:
    """Each with the name of its file. Raises: StageFailed with the lines that are none."""
    found, problems_found = [], []
    for file in files:
        try:
            lines = file.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise StageFailed(FailureCode.input_not_found, f"{file} cannot be read: {error}") from error
        for number, line in enumerate(lines, start=1):
            try:
                found += [(file.name, Expert.model_validate_json(line))] if line.strip() else []
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(map(str, first["loc"]))
                problems_found.append(f"{file}, line {number}: {where} {first['msg']}".replace(":  ", ": "))
    if problems_found:
        more = f"; and {len(problems_found) - _SHOWN} more lines" if len(problems_found) > _SHOWN else ""
        raise StageFailed(FailureCode.input_not_found, "; ".join(problems_found[:_SHOWN]) + more)
    return found


def _with_codes(text: str, schema: CategorySchema, codes: tuple[str, ...]) -> str:
    """Keys where codes stand: before a condition, and as the answer."""
    code_of = {
        answer: code for answer, code in zip(schema.answers, codes, strict=False) if answer is not None
    }
    if schema.none_of_these:
        code_of |= dict.fromkeys((NONE_WORD, NONE_TEXT), codes[len(schema.categories)])
    keys = "|".join(re.escape(key) for key in sorted(code_of, key=len, reverse=True))
    place = re.compile(
        rf'(?P<before>\bfits |\bnot |(?:^|\n){ANSWER_MARK.strip()}[ \t]*)(?P<key>{keys})(?=[\s".,:]|$)'
    )
    return place.sub(lambda found: found["before"] + code_of[found["key"]], text)
