"""What a model at a vLLM draws, and how likely it finds words that somebody else drew or wrote."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from evaluation.contract.chat import TEMPLATE_ARGUMENTS
from evaluation.contract.render import ChatMessage
from evaluation.inference.model_client import ROUTE, post
from evaluation.inference.predictor import VllmPredictor

COMPLETIONS: Final = "/v1/completions"


class DrawnAnswer(NamedTuple):
    """logprobs: of each token of the text, its end not among them."""

    text: str
    logprobs: list[float]


async def draw(predictor: VllmPredictor, messages: Sequence[ChatMessage], max_tokens: int) -> DrawnAnswer:
    """At temperature 1."""
    body = _asked(predictor, messages) | {
        "temperature": 1.0,
        "max_tokens": max_tokens,
        "logprobs": True,
        "top_logprobs": 0,
        **predictor.form.ending(),
    }
    choice = (await post(predictor.client, ROUTE, body))["choices"][0]
    text, tokens = choice["message"].get("content") or "", choice["logprobs"]["content"]
    logprobs: list[float] = []
    length = 0
    for token in tokens:  # the end, which is no part of the text, comes last
        length += len(bytes(token["bytes"] or b""))
        if length > len(text.encode()):
            break
        logprobs.append(token["logprob"])
    return DrawnAnswer(text, logprobs)


async def likeliest(predictor: VllmPredictor, messages: Sequence[ChatMessage], max_tokens: int) -> str:
    """What it answers without chance."""
    body = _asked(predictor, messages) | {
        "temperature": 0,
        "max_tokens": max_tokens,
        **predictor.form.ending(),
    }
    return str((await post(predictor.client, ROUTE, body))["choices"][0]["message"].get("content") or "")


async def read(predictor: VllmPredictor, messages: Sequence[ChatMessage], drawn: DrawnAnswer) -> float:
    """The log-prob of these words as the answer to these messages."""
    written: ChatMessage = {"role": "assistant", "content": drawn.text}
    body = _asked(predictor, [*messages, written]) | {
        "max_tokens": 1,
        "prompt_logprobs": 0,
        "add_generation_prompt": False,
        "continue_final_message": True,
    }
    found = (await post(predictor.client, ROUTE, body))["prompt_logprobs"]
    return sum(_only(one) for one in found[len(found) - len(drawn.logprobs) :])


async def read_text(predictor: VllmPredictor, text: str) -> float:
    """The log-prob of a plain text but for its first token."""
    body = {"model": predictor.model, "prompt": text, "max_tokens": 1, "prompt_logprobs": 0}
    found = (await post(predictor.client, COMPLETIONS, body))["choices"][0]["prompt_logprobs"]
    return sum(_only(one) for one in found[1:])


def _asked(predictor: VllmPredictor, messages: Sequence[ChatMessage]) -> dict[str, Any]:
    return {
        "model": predictor.model,
        "messages": predictor.form.messages(list(messages)),
        "chat_template_kwargs": TEMPLATE_ARGUMENTS,
    }


def _only(of_token: Mapping[str, Mapping[str, Any]]) -> float:
    """Of the token that stands there; the likeliest one may be told beside it, which then comes second."""
    return float(next(iter(of_token.values()))["logprob"])
