"""The models of an evaluation run behind one OpenAI-compatible server, and their answers as they are kept."""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import httpx

from evaluation.contract.budget import ANSWER_TOKENS
from evaluation.contract.mode import Mode
from evaluation.inference import runner
from evaluation.inference.http import Patience
from evaluation.inference.predictor import Codes, Predictor, Sending, VllmPredictor
from evaluation.inference.runner import Measured, Outcome, Questions
from evaluation.metrics import divergence
from evaluation.metrics.divergence import Divergence

DIVERGING = 48  # prompts: a response each, written by one model and read by the other


class ServedStage(NamedTuple):
    """A stage that can be asked. model: its name at the server; version: of its content, lasting.

    adapter: the folder, where it lies on this machine; an encoder that was trained with it is there. server: the
    address, where the version is a name that another server may have for another model.
    """

    stage: str
    model: str
    version: str
    adapter: Path | None = None
    server: str = ""

    @property
    def kept_as(self) -> str:
        """What its answers are kept under."""
        return f"{self.version} at {self.server}" if self.server else self.version


class StageClient(Protocol):
    """Answers are kept by whoever asks, so that nothing is asked twice."""

    @property
    def stages(self) -> Sequence[ServedStage]:
        """In order, the candidate last."""
        ...

    @property
    def modes(self) -> Collection[Mode]:
        """In which it can be asked."""
        ...

    async def answers(
        self,
        stage: str,
        questions: Questions,
        only: Sequence[int] | None = None,
        mode: Mode | None = None,
    ) -> list[Measured]:
        """mode: None: the one that stages are asked in."""
        ...

    async def divergence(self, stage: str, other: str, questions: Questions) -> Divergence | None:
        """None where the server cannot be asked for it."""
        ...


class ClientSettings(NamedTuple):
    """kept: folder for single outcomes, from which a stopped evaluation goes on. progress: of what, done, total.

    cache_salt: of the tenant whose words are asked with, where several have one server. complain: of requests that
    failed, a sentence for each set of questions.
    """

    kept: Path
    progress: Callable[[str, int, int], None]
    concurrency: int = 32
    max_tokens: int = ANSWER_TOKENS
    mode: Mode = Mode.reasoned
    cache_salt: str | None = None
    complain: Callable[[str], None] = lambda _: None


class KeptStages:
    """What every such client has: stages by their names, and answers that are kept by all that they depend on."""

    def __init__(self, client: httpx.AsyncClient, served: Sequence[ServedStage], settings: ClientSettings):
        self._client, self._settings = client, settings
        self._served = {one.stage: one for one in served}
        self._sending = Sending(cache_salt=settings.cache_salt, patience=Patience())

    @property
    def stages(self) -> Sequence[ServedStage]:
        return tuple(self._served.values())

    async def _run(
        self,
        one: ServedStage,
        questions: Questions,
        only: Sequence[int] | None,
        predictor: Predictor,
        way: str,
    ) -> list[Measured]:
        """way: how it is asked, as the end of a name; empty for the usual one. Raises: RunnerError."""
        # Named after all that an answer depends on, so that outcomes of another model or suite are never taken over;
        # and a stage that has learned nothing, which is the one before it, is not asked again.
        of_version = hashlib.sha256(one.kept_as.encode()).hexdigest()[:12]  # which may be any name
        settings, file = self._settings, f"{of_version}{way}.jsonl"
        title = ", ".join(filter(None, (one.stage, questions.title)))
        measured = await runner.run(
            questions,
            predictor,
            model=one.kept_as + way,
            out=settings.kept / questions.sha256[:12] / file,
            only=only,
            concurrency=settings.concurrency,
            progress=partial(settings.progress, title),
        )
        if errors := Counter(m.error for m in measured if m.outcome is Outcome.errored):
            ((text, _),) = errors.most_common(1)
            settings.complain(
                f"{title}: {errors.total()} of {len(measured)} requests failed, most often: {text}"
            )
        return measured


class VllmStageClient(KeptStages):
    modes = tuple(Mode)

    def __init__(
        self, client: httpx.AsyncClient, served: Sequence[ServedStage], codes: Codes, settings: ClientSettings
    ):
        super().__init__(client, served, settings)
        self._codes = codes

    async def answers(
        self,
        stage: str,
        questions: Questions,
        only: Sequence[int] | None = None,
        mode: Mode | None = None,
    ) -> list[Measured]:
        """Raises: RunnerError."""
        one, settings = self._served[stage], self._settings
        mode = mode or settings.mode
        predictor = VllmPredictor(
            self._client,
            one.model,
            self._codes.beside(one.adapter),
            max_tokens=settings.max_tokens,
            concurrency=settings.concurrency,
            mode=mode,
            sending=self._sending,
        )
        return await self._run(one, questions, only, predictor, "" if mode is Mode.reasoned else f"-{mode}")

    async def divergence(self, stage: str, other: str, questions: Questions) -> Divergence | None:
        if self._settings.mode is not Mode.reasoned:  # what it would write is then not what is served
            return None
        asked = divergence.prompted(
            Questions(questions.sha256, questions.each[:DIVERGING]),
            self._codes.texts,
            self._codes.form,
            self._settings.cache_salt,
        )
        return await divergence.divergence(
            self._client,
            self._served[stage].model,
            self._served[other].model,
            asked,
        )
