"""OpenAI's Decisions wire: a list of questions about an input of text or of a conversation's items."""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    Discriminator,
    Field,
    JsonValue,
    StrictBool,
    StrictStr,
    StringConstraints,
    Tag,
    field_validator,
    model_validator,
)

from app.decisions.payloads import AskingIn, BehindOut
from app.decisions.question import (
    MAX_NAME_CHARS,
    MAX_OPTIONS,
    MAX_QUESTIONS,
    MAX_STATE_CHARS,
    DecisionCall,
    DecisionQuestion,
    QuestionKind,
    as_json,
    conversation,
    description,
    instructions,
    invalid,
    option,
    text_state,
    yes_or_no,
)
from app.decisions.reading import Decided
from app.http.bodies import MAX_BODY_BYTES
from app.http.payload import RequestBody, ResponseBody
from evaluation.contract.record import Conversation
from evaluation.contract.text import blank

_ROLES = {"user": "customer", "assistant": "agent", "developer": "system", "system": "system"}
_NO_EFFECT = "Taken, and without effect here."
_MAX_ITEMS = 500  # of an input, and parts of a message
Text: TypeAlias = Annotated[str, StringConstraints(max_length=MAX_STATE_CHARS)]
Whole: TypeAlias = Annotated[str, StringConstraints(max_length=MAX_BODY_BYTES)]
Name: TypeAlias = Annotated[str, StringConstraints(max_length=MAX_NAME_CHARS)]


class TextPartIn(RequestBody):
    type: Literal["input_text", "output_text"] = Field(
        description="`input_text`, or `output_text` of an assistant.", examples=["input_text"]
    )
    text: Text = Field(description="The text.", examples=["I was charged twice."])
    prompt_cache_breakpoint: JsonValue = Field(None, description=_NO_EFFECT, examples=[{"mode": "explicit"}])


class RefusalPartIn(RequestBody):
    type: Literal["refusal"] = Field(description="Always `refusal`.", examples=["refusal"])
    refusal: Text = Field(description="What the assistant said.", examples=["I cannot do that."])

    @property
    def text(self) -> str:
        return self.refusal


class JsonPartIn(RequestBody):
    type: Literal["input_json"] = Field(description="Always `input_json`.", examples=["input_json"])
    data: JsonValue = Field(
        description="An object, or a list of them; shown as it is.", examples=[{"order": 17}]
    )

    @field_validator("data")
    @classmethod
    def _holds_objects(cls, data: JsonValue) -> JsonValue:
        if not all(isinstance(one, dict) for one in (data if isinstance(data, list) else [data])):
            raise ValueError("give an object, or a list of objects")
        return data

    @property
    def text(self) -> str:
        return as_json(self.data)


class ImagePartIn(RequestBody):
    """Refused: no image is read."""

    type: Literal["input_image"] = Field(description="Always `input_image`.", examples=["input_image"])
    image_url: str = Field(
        description="Refused.", max_length=MAX_BODY_BYTES, examples=["data:image/png;base64,"]
    )
    detail: JsonValue = Field(None, description="Refused.", examples=["auto"])
    prompt_cache_breakpoint: JsonValue = Field(None, description="Refused.", examples=[None])


PartIn: TypeAlias = Annotated[
    TextPartIn | RefusalPartIn | JsonPartIn | ImagePartIn, Field(discriminator="type")
]
Content: TypeAlias = Text | Annotated[list[PartIn], Field(max_length=_MAX_ITEMS)]


class DecisionMessageIn(RequestBody):
    type: Literal["message"] = Field("message", description="Always `message`.", examples=["message"])
    role: Literal["user", "assistant", "developer", "system"] = Field(
        description="Who says it; `user` is the customer, `assistant` the agent.", examples=["user"]
    )
    content: Content = Field(description="Text, or parts in their order.", examples=["I was charged twice."])
    phase: JsonValue = Field(None, description=_NO_EFFECT, examples=["final_answer"])


class CallIn(RequestBody):
    type: Literal["function_call", "custom_tool_call"] = Field(
        description="What was called.", examples=["function_call"]
    )
    call_id: Name = Field(description="By which its output names it.", examples=["call_1"])
    name: Name = Field(description="Of the tool.", examples=["find_order"])
    arguments: Text | None = Field(None, description="Of a function.", examples=['{"order": 17}'])
    input: Text | None = Field(None, description="Of a custom tool.", examples=["17"])
    id: JsonValue = Field(None, description=_NO_EFFECT, examples=[None])
    namespace: JsonValue = Field(None, description=_NO_EFFECT, examples=[None])
    status: JsonValue = Field(None, description=_NO_EFFECT, examples=["completed"])


class OutputIn(RequestBody):
    type: Literal["function_call_output", "custom_tool_call_output"] = Field(
        description="What a call gave.", examples=["function_call_output"]
    )
    call_id: Name = Field(description="Of the call.", examples=["call_1"])
    output: Content = Field(description="Text, or parts in their order.", examples=["shipped"])
    id: JsonValue = Field(None, description=_NO_EFFECT, examples=[None])
    status: JsonValue = Field(None, description=_NO_EFFECT, examples=["completed"])


def _kind_of_item(raw: Any) -> str:
    found = raw.get("type", "message") if isinstance(raw, dict) else getattr(raw, "type", None)
    return {"function_call": "call", "custom_tool_call": "call"}.get(
        str(found), "output" if str(found).endswith("_output") else "message"
    )


ItemIn: TypeAlias = Annotated[
    Annotated[DecisionMessageIn, Tag("message")]
    | Annotated[CallIn, Tag("call")]
    | Annotated[OutputIn, Tag("output")],
    Discriminator(_kind_of_item),
]


class PredicateIn(RequestBody):
    """How likely a statement about the input is to be true."""

    type: Literal["predicate"] = Field(description="Always `predicate`.", examples=["predicate"])
    name: Name | None = Field(None, description="Given back with the answer.", examples=["urgent"])
    instructions: Content = Field(description="The statement, or a question.", examples=["Is it urgent?"])

    def question(self, where: str) -> DecisionQuestion:
        """Raises: InvalidRequest."""
        return yes_or_no(where, _asked(where, self.instructions))


class OneChoiceIn(RequestBody):
    value: Annotated[StrictStr, Field(max_length=MAX_NAME_CHARS)] | StrictBool = Field(
        description="What the answer calls it; text and a boolean of the same word are two.",
        examples=["billing"],
    )
    description: Text | None = Field(None, description="When it applies.", examples=["Payments and refunds."])


class DecisionChoiceIn(RequestBody):
    """Which of several options applies."""

    type: Literal["choice"] = Field(description="Always `choice`.", examples=["choice"])
    name: Name | None = Field(None, description="Given back with the answer.", examples=["team"])
    instructions: Content = Field(description="What is asked.", examples=["Which team is it for?"])
    choices: list[OneChoiceIn] = Field(
        description="The options; their order says nothing.",
        min_length=1,
        max_length=MAX_OPTIONS,
        examples=[[{"value": "billing", "description": "Payments and refunds."}, {"value": "other"}]],
    )

    def question(self, where: str) -> DecisionQuestion:
        """Raises: InvalidRequest."""
        text = _asked(where, self.instructions)
        here = f"{where}.choices"
        seen: set[tuple[type, str | bool]] = set()
        options = []
        for number, one in enumerate(self.choices):
            if (type(one.value), one.value) in seen:
                raise invalid(f"{here}[{number}].value", f"{one.value!r:.60} stands twice")
            seen.add((type(one.value), one.value))
            said = description(f"{here}[{number}].description", one.description)
            options.append(option(f"{here}[{number}].value", one.value, said))
        return DecisionQuestion(here, QuestionKind.choice, text, tuple(options))


class LevelIn(RequestBody):
    label: Name = Field(description="What the level is called.", min_length=1, examples=["Blocked"])
    description: Text | None = Field(
        None, description="What tells it from its neighbours.", examples=["No workaround."]
    )


class DecisionScoreIn(RequestBody):
    """How far along a scale it is."""

    type: Literal["score"] = Field(description="Always `score`.", examples=["score"])
    name: Name | None = Field(None, description="Given back with the answer.", examples=["severity"])
    instructions: Content = Field(description="What is asked.", examples=["How severe is it?"])
    levels: list[LevelIn] = Field(
        description="From the lowest to the highest; the first is 0.",
        min_length=1,
        max_length=MAX_OPTIONS,
        examples=[[{"label": "Cosmetic"}, {"label": "Blocked"}]],
    )

    def question(self, where: str) -> DecisionQuestion:
        """Raises: InvalidRequest."""
        text = _asked(where, self.instructions)
        levels = []
        for number, one in enumerate(self.levels):
            here = f"{where}.levels[{number}]"
            said = description(f"{here}.description", one.description)
            levels.append(option(f"{here}.label", one.label, said))
        return DecisionQuestion(f"{where}.levels", QuestionKind.score, text, tuple(levels))


DecisionQuestionIn: TypeAlias = Annotated[
    PredicateIn | DecisionChoiceIn | DecisionScoreIn, Field(discriminator="type")
]


class DecisionsIn(AskingIn):
    input: Whole | Annotated[list[ItemIn], Field(max_length=_MAX_ITEMS)] = Field(
        description="What the questions are about: text, or messages, calls of tools and their outputs in their order.",
        examples=["I was charged twice. Please help."],
    )
    questions: list[DecisionQuestionIn] = Field(
        description=f"1 to {MAX_QUESTIONS} questions; the answers come in their order.",
        min_length=1,
        max_length=MAX_QUESTIONS,
        examples=[[{"type": "predicate", "name": "urgent", "instructions": "Is it urgent?"}]],
    )
    prompt_cache_key: JsonValue = Field(None, description=_NO_EFFECT, examples=[None])
    prompt_cache_options: JsonValue = Field(None, description=_NO_EFFECT, examples=[None])
    safety_identifier: JsonValue = Field(None, description=_NO_EFFECT, examples=[None])

    @model_validator(mode="before")
    @classmethod
    def _answerable(cls, raw: Any) -> Any:
        """Before each of ten thousand questions is found wrong by itself."""
        questions = raw.get("questions") if isinstance(raw, dict) else None
        if isinstance(questions, list) and len(questions) > MAX_QUESTIONS:
            raise ValueError(f"there are {len(questions)} questions; ask at most {MAX_QUESTIONS} in a call")
        return raw

    def call(self) -> DecisionCall:
        """Raises: InvalidRequest."""
        self._check_names()
        questions = tuple(
            one.question(f"body.questions[{number}]") for number, one in enumerate(self.questions)
        )
        return DecisionCall(
            self.model, "body.input", _state("body.input", self.input), questions, self.mode, self.orders
        )

    def _check_names(self) -> None:
        """Who reads the answers by name would lose one of two. Raises: InvalidRequest."""
        seen: set[str] = set()
        for number, one in enumerate(self.questions):
            if one.name in seen:
                raise invalid(f"body.questions[{number}].name", f"{one.name!r:.60} stands twice")
            if one.name is not None:
                seen.add(one.name)


def _state(where: str, given: str | list[ItemIn]) -> Conversation:
    """A conversation where it ends with what the user says; anything else is shown whole, as one text.

    Raises: InvalidRequest.
    """
    if isinstance(given, str):
        return text_state(where, given)
    tools: dict[str, str] = {}
    turns = []
    for number, item in enumerate(given):
        here = f"{where}[{number}]"
        if isinstance(item, CallIn):
            tools[item.call_id] = item.name
            turns.append(
                {"role": "assistant", "text": f"calls {item.name}: {item.arguments or item.input or ''}"}
            )
        elif isinstance(item, OutputIn):
            if item.call_id not in tools:
                raise invalid(f"{here}.call_id", f"no call before it has the id {item.call_id[:60]!r}")
            text = _text(f"{here}.output", item.output)
            turns.append({"role": "assistant", "text": f"{tools[item.call_id]} gives: {text}"})
        else:
            turns.append({"role": item.role, "text": _text(f"{here}.content", item.content)})
    if turns and turns[-1]["role"] == "user" and not blank(turns[-1]["text"]):
        return conversation(where, [turn | {"role": _ROLES[turn["role"]]} for turn in turns])
    said = [turn for turn in turns if not blank(turn["text"])]
    return text_state(where, "\n".join(f"{turn['role']}: {turn['text']}" for turn in said))


def _asked(where: str, content: Content) -> str:
    """Raises: InvalidRequest."""
    here = f"{where}.instructions"
    text = instructions(here, _text(here, content))
    if text is None:
        raise invalid(here, "is empty; write what is asked")
    return text


def _text(where: str, content: Content) -> str:
    """Raises: InvalidRequest."""
    if isinstance(content, str):
        return content
    texts = []
    for number, part in enumerate(content):
        if isinstance(part, ImagePartIn):
            raise invalid(f"{where}[{number}]", "images are not read; say in words what it shows")
        texts.append(part.text)
    return "\n".join(texts)


class PredicateOut(ResponseBody):
    type: Literal["predicate"] = Field("predicate", description="Always `predicate`.", examples=["predicate"])
    name: str | None = Field(description="Of the question; null: it has none.", examples=["urgent"])
    probability: float = Field(description="How likely it is true.", examples=[0.98])
    steerwise: BehindOut = Field(description="What stands behind it.")


class ChoiceProbabilityOut(ResponseBody):
    value: str | bool = Field(description="The option.", examples=["billing"])
    probability: float = Field(description="All of them add up to 1.", examples=[0.93])


class DecisionChoiceOut(ResponseBody):
    type: Literal["choice"] = Field("choice", description="Always `choice`.", examples=["choice"])
    name: str | None = Field(description="Of the question; null: it has none.", examples=["team"])
    choice: str | bool = Field(description="The likeliest option.", examples=["billing"])
    confidence: float = Field(
        description="1 minus the entropy of the probabilities over that of equal ones.", examples=[0.9]
    )
    probabilities: list[ChoiceProbabilityOut] = Field(description="Of every option.")
    steerwise: BehindOut = Field(description="What stands behind it.")


class ScoreProbabilityOut(ResponseBody):
    value: int = Field(description="The level's number, from 0.", examples=[0])
    label: str = Field(description="What the level is called.", examples=["Cosmetic"])
    probability: float = Field(description="All of them add up to 1.", examples=[0.3])


class DecisionScoreOut(ResponseBody):
    type: Literal["score"] = Field("score", description="Always `score`.", examples=["score"])
    name: str | None = Field(description="Of the question; null: it has none.", examples=["severity"])
    score: float = Field(description="The levels' numbers, weighted by how likely each is.", examples=[1.7])
    confidence: float = Field(
        description="1 minus the entropy of the probabilities over that of equal ones.", examples=[0.6]
    )
    probabilities: list[ScoreProbabilityOut] = Field(description="Of every level.")
    steerwise: BehindOut = Field(description="What stands behind it.")


class RefusalOut(ResponseBody):
    """The confidence was below the tenant's `abstain_below`, so this question is not answered."""

    type: Literal["refusal"] = Field("refusal", description="Always `refusal`.", examples=["refusal"])
    name: str | None = Field(description="Of the question; null: it has none.", examples=["team"])
    steerwise: BehindOut = Field(description="What stands behind it.")


DecisionAnswerOut: TypeAlias = Annotated[
    PredicateOut | DecisionChoiceOut | DecisionScoreOut | RefusalOut, Field(discriminator="type")
]


class InputDetailsOut(ResponseBody):
    cached_tokens: int = Field(description="Of those read, known from before.", examples=[256])
    cache_write_tokens: int = Field(description="Of those read, new, and known from now on.", examples=[54])


class OutputDetailsOut(ResponseBody):
    reasoning_tokens: int = Field(description="Of those written, before the answer.", examples=[0])


class DecisionsUsageOut(ResponseBody):
    input_tokens: int = Field(
        description="Read by the model; the input once for each question and order.", examples=[310]
    )
    input_tokens_details: InputDetailsOut = Field(description="Which of them.")
    output_tokens: int = Field(description="Written by it.", examples=[1])
    output_tokens_details: OutputDetailsOut = Field(description="Which of them.")
    total_tokens: int = Field(description="Both.", examples=[311])


class DecisionsOut(ResponseBody):
    model: str = Field(description="The model that was asked.", examples=["steerwise"])
    answers: list[DecisionAnswerOut] = Field(description="In the order of the questions.")
    usage: DecisionsUsageOut = Field(description="Tokens of this call.")

    @classmethod
    def of(cls, asked: DecisionsIn, decided: list[Decided]) -> "DecisionsOut":
        pairs = zip(asked.questions, decided, strict=True)
        answers = [_answer(question, one) for question, one in pairs]
        return cls(model=asked.model, answers=answers, usage=_usage(decided))


def _answer(
    question: PredicateIn | DecisionChoiceIn | DecisionScoreIn, decided: Decided
) -> PredicateOut | DecisionChoiceOut | DecisionScoreOut | RefusalOut:
    behind, name = BehindOut.of(decided.behind), question.name
    if behind.abstained:
        return RefusalOut(name=name, steerwise=behind)
    if isinstance(question, PredicateIn):
        return PredicateOut(name=name, probability=decided.probabilities[0], steerwise=behind)
    pairs = list(zip(decided.options, decided.probabilities, strict=True))
    if isinstance(question, DecisionChoiceIn):
        return DecisionChoiceOut(
            name=name,
            choice=decided.likeliest.value,
            confidence=decided.confidence,
            probabilities=[ChoiceProbabilityOut(value=one.value, probability=p) for one, p in pairs],
            steerwise=behind,
        )
    return DecisionScoreOut(
        name=name,
        score=decided.expected,
        confidence=decided.confidence,
        probabilities=[
            ScoreProbabilityOut(value=level, label=one.name, probability=p)
            for level, (one, p) in enumerate(pairs)
        ],
        steerwise=behind,
    )


def _usage(decided: list[Decided]) -> DecisionsUsageOut:
    read, cached, written, reasoning = map(sum, zip(*(one.tokens for one in decided), strict=True))
    return DecisionsUsageOut(
        input_tokens=read,
        input_tokens_details=InputDetailsOut(cached_tokens=cached, cache_write_tokens=read - cached),
        output_tokens=written,
        output_tokens_details=OutputDetailsOut(reasoning_tokens=reasoning),
        total_tokens=read + written,
    )
