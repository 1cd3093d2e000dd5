"""The System One wire: named questions about one state."""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, JsonValue, StringConstraints, model_validator

from app.decisions.payloads import AskingIn, BehindOut
from app.decisions.question import (
    MAX_OPTIONS,
    MAX_QUESTIONS,
    DecisionCall,
    DecisionQuestion,
    Option,
    QuestionKind,
    description,
    instructions,
    invalid,
    option,
    state_of,
    yes_or_no,
)
from app.decisions.reading import Decided
from app.http.payload import RequestBody, ResponseBody

QuestionName: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=256)]
_INSTRUCTIONS = "What is asked: text, or JSON that is shown as it is."
_STATE = "I was charged twice. Please help."


class NoulCriteriaIn(RequestBody):
    true: JsonValue = Field(None, description="When yes is right.", examples=["Unsolicited advertising"])
    false: JsonValue = Field(None, description="When no is right.", examples=["A conversation"])


class NoulIn(RequestBody):
    """A question with the answers yes and no, or a statement that holds or does not."""

    type: Literal["noul"] = Field(description="Always `noul`.", examples=["noul"])
    instructions: JsonValue = Field(None, description=_INSTRUCTIONS, examples=["Is this about billing?"])
    criteria: NoulCriteriaIn | None = Field(None, description="When which answer is right.")

    def question(self, where: str) -> DecisionQuestion:
        """Raises: InvalidRequest."""
        said = self.criteria or NoulCriteriaIn()
        yes = description(f"{where}.criteria.true", said.true)
        no = description(f"{where}.criteria.false", said.false)
        text = instructions(f"{where}.instructions", self.instructions)
        if text is yes is no is None:
            raise invalid(where, "asks nothing; write instructions, or criteria that say when which is right")
        return yes_or_no(where, text, yes, no)


class SystemOneChoiceIn(RequestBody):
    """Which of several options applies."""

    type: Literal["choice"] = Field(description="Always `choice`.", examples=["choice"])
    instructions: JsonValue = Field(None, description=_INSTRUCTIONS, examples=["What is the tone?"])
    criteria: dict[str, JsonValue] | None = Field(
        None,
        description="The options, and when each applies; null: its name says it. Their order says nothing. May be left "
        "out where the model is a schema.",
        max_length=MAX_OPTIONS,
        examples=[{"angry": "An upset message", "calm": None}],
    )

    def question(self, where: str) -> DecisionQuestion:
        """Raises: InvalidRequest."""
        options = []
        for number, (name, said) in enumerate((self.criteria or {}).items()):
            here = f"{where}.criteria.{name[:100]}" if name else f"{where}.criteria, option {number + 1}"
            options.append(option(here, name, said))
        text = instructions(f"{where}.instructions", self.instructions)
        return DecisionQuestion(f"{where}.criteria", QuestionKind.choice, text, tuple(options))


class SystemOneScoreIn(RequestBody):
    """How far along a scale it is."""

    type: Literal["score"] = Field(description="Always `score`.", examples=["score"])
    instructions: JsonValue = Field(None, description=_INSTRUCTIONS, examples=["How urgent is this?"])
    criteria: list[JsonValue] = Field(
        description="The levels, from the lowest to the highest; the first is 0.",
        min_length=1,
        max_length=MAX_OPTIONS,
        examples=[["Can wait", "This week", "Today"]],
    )

    def question(self, where: str) -> DecisionQuestion:
        """Raises: InvalidRequest."""
        levels = []
        for number, said in enumerate(self.criteria):
            here = f"{where}.criteria[{number}]"
            meaning = description(here, said)
            if meaning is None:
                raise invalid(here, "is empty; say what this level means")
            levels.append(Option(str(number), str(number), meaning))
        text = instructions(f"{where}.instructions", self.instructions)
        return DecisionQuestion(f"{where}.criteria", QuestionKind.score, text, tuple(levels))


SystemOneQuestionIn: TypeAlias = Annotated[
    NoulIn | SystemOneChoiceIn | SystemOneScoreIn, Field(discriminator="type")
]


class SystemOneIn(AskingIn):
    state: JsonValue = Field(
        description="What the questions are about: text, or JSON. A list of messages, each of a `role` and a `text` "
        "(or `content`), the last a customer's, is read as a conversation.",
        examples=[_STATE],
    )
    questions: dict[QuestionName, SystemOneQuestionIn] = Field(
        description=f"1 to {MAX_QUESTIONS} questions, by names of the caller's own.",
        min_length=1,
        max_length=MAX_QUESTIONS,
        examples=[{"billing": {"type": "noul", "instructions": "Is this about billing?"}}],
    )

    @model_validator(mode="before")
    @classmethod
    def _answerable(cls, raw: Any) -> Any:
        """Before each of ten thousand questions is found wrong by itself."""
        if isinstance(raw, dict) and "assets" in raw:
            raise ValueError("assets: images are not read; put what they show into the state, as text")
        questions = raw.get("questions") if isinstance(raw, dict) else None
        if isinstance(questions, dict) and len(questions) > MAX_QUESTIONS:
            raise ValueError(f"there are {len(questions)} questions; ask at most {MAX_QUESTIONS} in a call")
        return raw

    def call(self) -> DecisionCall:
        """Raises: InvalidRequest."""
        questions = tuple(
            question.question(f"body.questions.{name}") for name, question in self.questions.items()
        )
        return DecisionCall(
            self.model, "body.state", state_of("body.state", self.state), questions, self.mode, self.orders
        )


class NoulOut(ResponseBody):
    type: Literal["noul"] = Field("noul", description="Always `noul`.", examples=["noul"])
    noul: float = Field(description="How likely yes is.", examples=[0.98])
    steerwise: BehindOut = Field(description="What stands behind it.")


class SystemOneChoiceOut(ResponseBody):
    type: Literal["choice"] = Field("choice", description="Always `choice`.", examples=["choice"])
    choice: str = Field(description="The likeliest option.", examples=["angry"])
    confidence: float = Field(
        description="1 minus the entropy of the probabilities over that of equal ones.", examples=[0.9]
    )
    probabilities: dict[str, float] = Field(
        description="Of every option; they add up to 1.", examples=[{"angry": 0.97, "calm": 0.03}]
    )
    steerwise: BehindOut = Field(description="What stands behind it.")


class SystemOneScoreOut(ResponseBody):
    type: Literal["score"] = Field("score", description="Always `score`.", examples=["score"])
    score: float = Field(description="The levels' numbers, weighted by how likely each is.", examples=[1.7])
    confidence: float = Field(
        description="1 minus the entropy of the probabilities over that of equal ones.", examples=[0.6]
    )
    legend: dict[str, JsonValue] = Field(
        description="The levels by their numbers.", examples=[{"0": "Can wait", "1": "Today"}]
    )
    probabilities: dict[str, float] = Field(
        description="Of every level; they add up to 1.", examples=[{"0": 0.3, "1": 0.7}]
    )
    steerwise: BehindOut = Field(description="What stands behind it.")


class SystemOneUsageOut(ResponseBody):
    input_tokens: int = Field(
        description="Read by the model; the state once for each question and order.", examples=[310]
    )
    output_tokens: int = Field(description="Written by it.", examples=[1])


SystemOneAnswerOut: TypeAlias = Annotated[
    NoulOut | SystemOneChoiceOut | SystemOneScoreOut, Field(discriminator="type")
]


class SystemOneOut(ResponseBody):
    model: str = Field(description="The model that was asked.", examples=["steerwise"])
    answers: dict[str, SystemOneAnswerOut] = Field(description="By the names of the questions.")
    usage: SystemOneUsageOut = Field(description="Tokens of this call.")

    @classmethod
    def of(cls, asked: SystemOneIn, decided: list[Decided]) -> "SystemOneOut":
        pairs = zip(asked.questions.items(), decided, strict=True)
        used = SystemOneUsageOut(
            input_tokens=sum(one.tokens.read for one in decided),
            output_tokens=sum(one.tokens.written for one in decided),
        )
        answers = {name: _answer(question, one) for (name, question), one in pairs}
        return cls(model=asked.model, answers=answers, usage=used)


def _answer(
    question: NoulIn | SystemOneChoiceIn | SystemOneScoreIn, decided: Decided
) -> NoulOut | SystemOneChoiceOut | SystemOneScoreOut:
    behind = BehindOut.of(decided.behind)
    if isinstance(question, NoulIn):
        return NoulOut(noul=decided.probabilities[0], steerwise=behind)
    names = [str(one.value) for one in decided.options]
    probabilities = dict(zip(names, decided.probabilities, strict=True))
    if isinstance(question, SystemOneChoiceIn):
        return SystemOneChoiceOut(
            choice=str(decided.likeliest.value),
            confidence=decided.confidence,
            probabilities=probabilities,
            steerwise=behind,
        )
    return SystemOneScoreOut(
        score=decided.expected,
        confidence=decided.confidence,
        legend=dict(zip(names, question.criteria, strict=True)),
        probabilities=probabilities,
        steerwise=behind,
    )
