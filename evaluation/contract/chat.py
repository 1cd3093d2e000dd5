"""The chat form of a base: how a prompt of the contract becomes the messages that this model is sent.

Serving, the gate and training read it with the functions below from the base's own tokenizer files, so that all of
them send the same bytes. What a base lists as its control tokens is broken up in every text, and so are the marks that
its template writes without their being tokens; a chat template that takes no system message, or drops it without a
word, gets it in the first user message; the token that the template ends an answer with is the one that an answer has
to end with.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import groupby
from typing import Any, Final, Literal, NamedTuple

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from evaluation.contract.record import conversation_from_text
from evaluation.contract.render import ANSWER_MARK, FAST_PREFIX, ChatMessage, candidate_codes, render
from evaluation.contract.schema import Category, CategorySchema

TEMPLATE_ARGUMENTS = {
    "enable_thinking": False
}  # hybrid models: the reasoning is the contract's, not their own
_SCHEMA = CategorySchema(
    question="Which?",
    none_of_these=True,
    categories=(Category(key="k", name="Name", definition="Asks.", includes=("One.",), excludes=("Two.",)),),
)
_BRACKETED = re.compile(r"[<\[{(|｜].*[>\]})|｜]", re.DOTALL)
_WRITTEN_MARK = re.compile(r"<{1,2}[^<>\s]{1,60}>{1,2}|\[[^\[\]\s]{1,60}\]|\|[^|\s]{1,60}\|")
_ABOUT_ROLES = re.compile(r"\b(?:system|roles?)\b", re.IGNORECASE)
_UNICODE_FORMS: Final[tuple[Literal["NFC", "NFD", "NFKC", "NFKD"], ...]] = ("NFC", "NFD", "NFKC", "NFKD")
_SHOWN = 5


class ChatFormError(ValueError):
    """A base that cannot be asked as the contract asks; the message says why and what to do."""


class ControlToken(NamedTuple):
    """A token that a tokenizer adds to its vocabulary whole. special: by the tokenizer's own word."""

    text: str
    special: bool


class ChatForm(NamedTuple):
    """control: what is broken up in every text. end_id: token that ends an answer and is not the tokenizer's own."""

    control: tuple[str, ...] = ()
    system_role: bool = True
    end: str | None = None
    end_id: int | None = None

    def messages(self, messages: Sequence[ChatMessage]) -> list[ChatMessage]:
        shown: list[ChatMessage] = [
            {"role": message["role"], "content": self.broken_up(message["content"])} for message in messages
        ]
        return shown if self.system_role else folded(shown)

    def broken_up(self, text: str) -> str:
        """With a space behind the first character of every control token, so that it is read as plain text."""
        pattern = _pattern(self.control)
        return text if pattern is None else pattern.sub(lambda found: f"{found[0]} ", text)

    def ending(self) -> dict[str, list[int]]:
        """What a request to vLLM says besides, where its own end of an answer is another than the template's."""
        return {} if self.end_id is None else {"stop_token_ids": [self.end_id]}


PLAIN = ChatForm()


def folded(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """The system message at the head of the first user message."""
    if len(messages) < 2 or messages[0]["role"] != "system":
        return list(messages)
    system, first, *rest = messages
    return [{"role": first["role"], "content": f"{system['content']}\n\n{first['content']}"}, *rest]


def is_about_roles(refusal: str) -> bool:
    """Whether a server's refusal may be one of the system message; it is worded by whoever wrote the template."""
    return _ABOUT_ROLES.search(refusal) is not None


class ChatTemplate:
    """Rendered as transformers and vLLM render it, without either."""

    def __init__(self, source: str, variables: Mapping[str, str]):
        """variables: the tokenizer's special tokens, by their names (`bos_token`, …). Raises: ChatFormError."""
        self.source, self._variables = source, variables
        try:
            self._template = _environment().from_string(source)
        except TemplateError as error:
            raise ChatFormError(f"its chat template cannot be read: {error}") from None

    def render(self, messages: Sequence[ChatMessage], *, opened: bool) -> str:
        """opened: with the head of an answer that is to be written. Raises: ChatFormError."""
        try:
            return self._template.render(
                messages=[dict(message) for message in messages],
                tools=None,
                documents=None,
                add_generation_prompt=opened,
                **(dict(self._variables) | TEMPLATE_ARGUMENTS),
            )
        except (TemplateError, SecurityError, TypeError, ValueError, LookupError, ArithmeticError) as error:
            raise ChatFormError(f"its chat template refuses the prompt: {error}") from None


def control_tokens(added: Iterable[ControlToken], template: ChatTemplate | None) -> tuple[str, ...]:
    """Of the tokens that a tokenizer adds, those that steer: special ones, marks in brackets, what the template writes.

    Others (runs of spaces, words of a trade) are text, and stay it.
    """
    source = template.source if template else ""
    return tuple(
        sorted(
            {
                token.text
                for token in added
                if token.text.strip()
                and (token.special or _BRACKETED.fullmatch(token.text) or token.text in source)
            }
        )
    )


def chat_form(template: ChatTemplate, control: tuple[str, ...], end_of_text: str | None) -> ChatForm:
    """Tries the template on the messages of the contract. end_of_text: the tokenizer's own.

    Raises: ChatFormError where the contract's messages cannot be shown by it, or an answer has no end.
    """
    form = ChatForm(control)
    messages = form.messages(_prompt())
    refused = _refusal(template, messages)
    if refused is not None:
        form = form._replace(system_role=False)
        messages = form.messages(_prompt())
        if (again := _refusal(template, messages)) is not None:
            raise again
    opening = template.render(messages, opened=True)
    answer: ChatMessage = {"role": "assistant", "content": f"{FAST_PREFIX} A"}
    answered = template.render([*messages, answer], opened=False)
    form = form._replace(control=tuple(sorted({*control, *_written_marks(answered, [*messages, answer])})))
    before, said, after = answered.rpartition(answer["content"])
    if not said or before.rstrip() != opening.rstrip():
        raise ChatFormError(
            "its chat template shows an answer in another place than where it lets the model begin one "
            f"({_end_of(opening)!r} against {_end_of(before)!r}): most likely it opens with thinking that cannot be "
            "switched off; choose a base without it, or one whose template knows enable_thinking"
        )
    end = _first_of(control, after.lstrip()) or end_of_text
    if not end:
        raise ChatFormError(
            "neither its chat template nor its tokenizer has a token that ends an answer; set eos_token in "
            "tokenizer_config.json"
        )
    return form._replace(end=end)


def check_control(
    form: ChatForm, tokens_of: Callable[[list[str]], list[list[int]]], ids: Mapping[str, int]
) -> None:
    """Whether any control token still comes out of a text in which all are broken up. ids: of those of form.control
    that are tokens.

    Raises: ChatFormError naming those that do, or that our own words hold.
    """
    own = "\n".join(message["content"] for message in [*_prompt(), _message("assistant", ANSWER_MARK)])
    ours = [token for token in form.control if token in own]
    steering = {ids[token] for token in form.control if token in ids}
    texts = [(token, form.broken_up(text)) for token in form.control for text in _disguised(token)]
    found = tokens_of([text for _, text in texts])
    survived = {token for (token, _), tokens in zip(texts, found, strict=True) if steering & set(tokens)}
    if ours or survived:
        named = ", ".join(map(repr, sorted({*ours, *survived})[:_SHOWN]))
        raise ChatFormError(
            f"what a customer or a category writes could become its control tokens ({named}); choose another base"
        )


def _disguised(token: str) -> list[str]:
    """As a text may hold it: inside words, twice, in itself, and in what a normalizer could make it of."""
    wide = "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in token)
    half = max(1, len(token) // 2)
    hidden = token[:half] + "\u200b" + token[half:]
    nested = token[:half] + token + token[half:]
    accented = token[:half] + "\u0301" + token[half:]
    texts = [
        token,
        f"a{token}b",
        f" {token} ",
        token + token,
        nested,
        wide,
        hidden,
        accented,
        token.swapcase(),
    ]
    # What a tokenizer writes for a space; and where its end is its beginning, two that share it.
    texts += [token.replace("\u2581", " "), *(unicodedata.normalize(form, token) for form in _UNICODE_FORMS)]
    texts += [token + token[k:] for k in range(1, len(token)) if token.endswith(token[:k])]
    return [f"customer: thanks {text} bye" for text in dict.fromkeys(texts)]


def _written_marks(shown: str, messages: Sequence[ChatMessage]) -> set[str]:
    """What a template writes in brackets around the messages, as `[INST]` where it is no token: a model that was
    trained on it follows it, whoever writes it."""
    for message in messages:
        shown = shown.replace(message["content"].strip(), "\n")
    return set(_WRITTEN_MARK.findall(shown))


def _refusal(template: ChatTemplate, messages: Sequence[ChatMessage]) -> ChatFormError | None:
    try:
        shown = template.render(messages, opened=True)
    except ChatFormError as error:
        return error
    missing = [message["role"] for message in messages if message["content"].strip() not in shown]
    return ChatFormError(f"its chat template leaves out the {missing[0]} message") if missing else None


def _prompt() -> list[ChatMessage]:
    codes = tuple(code for code, _ in zip(candidate_codes(), range(2), strict=False))
    return render(_SCHEMA, conversation_from_text("hello"), codes).messages


def _message(role: str, content: str) -> ChatMessage:
    return {"role": role, "content": content}


def _first_of(control: tuple[str, ...], text: str) -> str | None:
    return max((token for token in control if text.startswith(token)), key=len, default=None)


def _end_of(text: str) -> str:
    return text[-40:]


@lru_cache(maxsize=16)
def _pattern(control: tuple[str, ...]) -> re.Pattern[str] | None:
    """The first character of one, wherever the rest follows: of two that share characters both are found. By first
    character: some bases have thousands, and few characters begin one."""
    if not control:
        return None
    parts = [
        re.escape(first)
        + "(?="
        + "|".join(re.escape(token[1:]) for token in sorted(group, key=len, reverse=True))
        + ")"
        for first, group in groupby(sorted(control), key=lambda token: token[0])
    ]
    return re.compile("|".join(parts))


@lru_cache(maxsize=1)
def _environment() -> ImmutableSandboxedEnvironment:
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    made.filters["tojson"] = _tojson
    made.globals["raise_exception"] = _raise
    made.globals["strftime_now"] = lambda form: datetime.now().astimezone().strftime(form)
    return made


class _Generation(Extension):
    """`{% generation %}`, by which templates mark what the model wrote; shown as it is."""

    tags = {"generation"}  # noqa: RUF012 - jinja reads it from the class

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise(message: str) -> None:
    raise TemplateError(message)


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)
