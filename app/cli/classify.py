"""`steerwise classify` on files: a trained model or the base as it stands, a schema, and conversations."""

import asyncio
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx
from rich.console import Console

from app.cli.answers import FileAnswer, answer, answer_json, answer_lines
from app.cli.console import Progress
from app.cli.files import read_file, read_schema
from app.errors import InputError, ServingError
from app.runs import output
from app.serving import adapters, model_folder
from app.serving.base import ModelBase, codes_for, digest, find_base
from app.serving.model_folder import ModelNote
from app.serving.replicas import AskedModel
from app.serving.vllm import BASE_NAME, VllmEndpoint, serving
from app.settings import Settings
from evaluation.contract.mode import Mode
from evaluation.contract.record import Conversation, conversation_from_text
from evaluation.contract.schema import CategorySchema
from evaluation.contract.text import blank
from evaluation.inference.predictor import Codes
from evaluation.metrics.calibrator import applied
from evaluation.terminal import json_text, say


class Trained(NamedTuple):
    """What a run has left: an adapter of its base, and what is known of it."""

    folder: Path
    note: ModelNote

    @property
    def gate(self) -> str:
        return self.note.verdict


class ClassifyRequest(NamedTuple):
    """trained: None: the base is asked as it stands, which no gate has examined."""

    trained: Trained | None
    base: ModelBase
    codes: Codes
    schema: CategorySchema
    conversations: Sequence[Conversation]
    mode: Mode
    explain: bool = False

    @property
    def temperature(self) -> float | None:
        """Under another schema or in another mode than it was fitted for, nothing is known of confidences."""
        if self.trained is None:
            return None
        note = self.trained.note
        return (
            note.temperature if (note.schema_sha256, note.mode) == (self.schema.sha256, self.mode) else None
        )

    @property
    def gate(self) -> str:
        return "none" if self.trained is None else self.trained.gate


class FileQuestion(NamedTuple):
    """Of text and conversations one is a file or None. mode: None: the one that the model was evaluated in.

    explain: what is answered at once gets its reasons too.
    """

    schema: Path
    text: str | None
    conversations: Path | None
    mode: Mode | None = None
    explain: bool = False


def read(model: Path, question: FileQuestion, settings: Settings) -> ClassifyRequest:
    """Raises: AdapterRefused, InputError, before anything is started."""
    trained = Trained(*model_folder.read(model))
    schema, conversations = _read(question)
    base, note = find_base(trained.note.base), trained.note
    if digest(base) != note.base_sha256:
        raise InputError(
            f"the adapter was trained on another {base.name} than the one in {base.folder}; train again"
        )
    adapter = adapters.check(trained.folder / note.adapter, settings.vllm_max_lora_rank)
    if output.key_of(note.base_sha256, adapter.sha256) != note.model_version:
        raise InputError(
            f"{adapter.folder} is not what its run left there: a file was changed or is gone; remove {trained.folder} "
            "and give the same `steerwise run` again, which puts it back"
        )
    codes = codes_for(base.folder, schema).beside(adapter.folder)
    mode = question.mode or note.mode
    return ClassifyRequest(trained, base, codes, schema, conversations, mode, question.explain)


def read_untrained(
    base_name: str, question: FileQuestion, settings: Settings, progress: Progress
) -> ClassifyRequest:
    """The base as it stands, under a schema that needs no label. Raises: InputError."""
    schema, conversations = _read(question)
    base = find_base(base_name, settings.home, progress.note)
    codes = codes_for(base.folder, schema)
    mode = question.mode or Mode.reasoned
    return ClassifyRequest(None, base, codes, schema, conversations, mode, question.explain)


def run(
    asked: ClassifyRequest, base_url: str | None, settings: Settings, progress: Progress
) -> list[FileAnswer]:
    for warning in _warnings(asked):
        progress.note(f"warning: {warning}")
    if base_url is not None:
        return _ask(_there(base_url), _model_there(base_url, asked, settings), asked)
    folder = None if asked.trained is None else asked.trained.folder.parent
    place = folder if folder is not None and os.access(folder, os.W_OK) else settings.socket_dir
    with serving(
        asked.base.folder,
        place / "classify-vllm.log",
        settings,
        lambda passed: progress.update("starting vLLM", 0, None),
    ) as vllm:
        progress.end("starting vLLM")
        trained = asked.trained
        name = BASE_NAME if trained is None else vllm.load(trained.folder / trained.note.adapter)
        return _ask(vllm.endpoint, name, asked)


def _warnings(asked: ClassifyRequest) -> Iterator[str]:
    if asked.trained is None:
        yield f"{asked.base.name} answers as it stands; no gate has examined it under this schema (gate: none)"
        return
    note = asked.trained.note
    if note.verdict != "passed":
        yield f"the gate's verdict on this model is {note.verdict}"
    if asked.mode is not note.mode:
        yield f"the gate has examined this model in mode {note.mode}, not in {asked.mode}"


def show(answered: Sequence[FileAnswer], asked: ClassifyRequest, console: Console, *, as_json: bool) -> None:
    for one in answered:
        if as_json:
            say(json_text(answer_json(one) | {"gate": asked.gate}))
        else:
            console.print("\n".join([*answer_lines(one, asked.schema), ""]), markup=False)


def _ask(endpoint: VllmEndpoint, model: str, asked: ClassifyRequest) -> list[FileAnswer]:
    how = AskedModel(model, asked.codes, asked.mode, explain=asked.explain)
    answered = asyncio.run(answer(endpoint, how, asked.schema, asked.conversations))
    return [one._replace(prediction=applied(one.prediction, asked.temperature)) for one in answered]


def _read(question: FileQuestion) -> tuple[CategorySchema, Sequence[Conversation]]:
    text, file = question.text, question.conversations
    if (text is None) == (file is None):
        raise InputError("give either --text or --conversation")
    schema = read_schema(question.schema)
    if file is not None:
        return schema, read_file(file, None).conversations
    assert text is not None
    if blank(text):
        raise InputError("--text is empty")
    return schema, [conversation_from_text(text)]


def _there(base_url: str) -> VllmEndpoint:
    return VllmEndpoint(base_url.rstrip("/").removesuffix("/v1"))


def _model_there(base_url: str, asked: ClassifyRequest, settings: Settings) -> str:
    """The adapter as a running vLLM already has it, or loaded there under a name of its own."""
    if asked.trained is None:
        return BASE_NAME
    adapter = adapters.check(asked.trained.folder / asked.trained.note.adapter, settings.vllm_max_lora_rank)
    with _there(base_url).client() as client:
        try:
            models: list[str] = [m["id"] for m in client.get("/v1/models").raise_for_status().json()["data"]]
            there = next((m for m in models if m.startswith("t_") and m.endswith(adapter.sha256[:12])), None)
            if there is not None:
                return there
            name = adapters.served_name(adapter)
            body = {"lora_name": name, "lora_path": str(adapter.folder.resolve())}
            client.post("/v1/load_lora_adapter", json=body).raise_for_status()
        except httpx.HTTPError as error:
            raise ServingError(f"the vLLM at {base_url} cannot serve this model: {error}") from None
    return name
