"""`steerwise classify`: a trained model, a schema that may have been edited since, and conversations."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import httpx
from rich.console import Console

from app.errors import InputError, ServingError
from app.pipeline.answers import Answered, answer, answer_json, answer_lines
from app.pipeline.console import Progress
from app.pipeline.files import read_file, read_schema
from app.serving import adapters, model_folder
from app.serving.base import Base, codes_for, digest, find_base
from app.serving.model_folder import ModelNote
from app.serving.vllm import Endpoint, serving
from app.settings import Settings
from evaluation.beside.calibrator import applied
from evaluation.contract.mode import Mode
from evaluation.contract.record import Conversation, conversation_from_text
from evaluation.contract.schema import CategorySchema
from evaluation.contract.text import blank
from evaluation.predictor import Codes
from evaluation.terminal import json_text, say


class Asked(NamedTuple):
    folder: Path
    note: ModelNote
    base: Base
    codes: Codes
    schema: CategorySchema
    conversations: Sequence[Conversation]
    mode: Mode

    @property
    def temperature(self) -> float | None:
        """Under another schema or in another mode than it was fitted for, nothing is known of confidences."""
        fitted = self.schema.sha256 == self.note.schema_sha256 and self.mode is self.note.mode
        return self.note.temperature if fitted else None


def read(
    model: Path,
    schema_file: Path,
    text: str | None,
    conversation_file: Path | None,
    mode: Mode | None = None,
) -> Asked:
    """mode: None: the one that the model was examined in. Raises: InputError, before anything is started."""
    folder, note = model_folder.read(model)
    schema = read_schema(schema_file)
    conversations = _conversations(text, conversation_file)
    base = find_base(note.base)
    if digest(base) != note.base_sha256:
        raise InputError(
            f"the adapter was trained on another {base.name} than the one in {base.folder}; train again"
        )
    return Asked(folder, note, base, codes_for(base.folder, schema), schema, conversations, mode or note.mode)


def run(asked: Asked, base_url: str | None, settings: Settings, progress: Progress) -> list[Answered]:
    if asked.note.verdict != "passed":
        progress.note(f"warning: the gate's verdict on this model is {asked.note.verdict}")
    if asked.mode is not asked.note.mode:
        progress.note(
            f"warning: the gate has examined this model in mode {asked.note.mode}, not in {asked.mode}"
        )
    if base_url is not None:
        return _ask(_there(base_url), _model_there(base_url, asked, settings), asked)
    beside = asked.folder.parent
    log = (beside if os.access(beside, os.W_OK) else settings.socket_dir) / "classify-vllm.log"
    with serving(
        asked.base.folder, log, settings, lambda passed: progress.update("starting vLLM", 0, None)
    ) as vllm:
        progress.end("starting vLLM")
        return _ask(vllm.endpoint, vllm.load(asked.folder / asked.note.adapter), asked)


def show(answered: Sequence[Answered], schema: CategorySchema, console: Console, *, as_json: bool) -> None:
    for one in answered:
        if as_json:
            say(json_text(answer_json(one)))
        else:
            console.print("\n".join([*answer_lines(one, schema), ""]), markup=False)


def _ask(endpoint: Endpoint, model: str, asked: Asked) -> list[Answered]:
    answered = asyncio.run(
        answer(endpoint, model, asked.codes, asked.schema, asked.conversations, asked.mode)
    )
    return [one._replace(prediction=applied(one.prediction, asked.temperature)) for one in answered]


def _conversations(text: str | None, file: Path | None) -> Sequence[Conversation]:
    if (text is None) == (file is None):
        raise InputError("give either --text or --conversation")
    if file is not None:
        return read_file(file, None).conversations
    assert text is not None
    if blank(text):
        raise InputError("--text is empty")
    return [conversation_from_text(text)]


def _there(base_url: str) -> Endpoint:
    return Endpoint(base_url.rstrip("/").removesuffix("/v1"))


def _model_there(base_url: str, asked: Asked, settings: Settings) -> str:
    """The adapter as a running vLLM already has it, or loaded there under a name of its own."""
    adapter = adapters.check(asked.folder / asked.note.adapter, settings.vllm_max_lora_rank)
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
