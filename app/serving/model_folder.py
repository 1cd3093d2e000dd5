"""What a job leaves for `classify --model`: the adapter, and a note of what it belongs to."""

import json
import shutil
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.errors import InputError
from app.serving.adapters import Adapter, files_of
from evaluation.atomic_files import place_folder, write_whole
from evaluation.contract.mode import Mode

NOTE, ADAPTER = "model.json", "adapter"


class ModelNote(BaseModel):
    """base: `starter`, a Hugging Face name, or the path of a folder; codes: aligned with the schema's answers.

    temperature: of calibrated confidences under that schema; None where the evaluation has fitted none.
    answer_tokens: how long an answer may be, as it was trained; notes of before do not say.
    mode: in which it was evaluated. temperature: of calibrated confidences in it and under that schema; None where the
    evaluation has fitted none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_note: int = Field(1, ge=1, le=1)
    model_version: str = Field(pattern=r"^[0-9a-f]{64}$")
    base: str
    base_sha256: str
    adapter: str = ADAPTER
    stage: str
    codes: tuple[str, ...]
    schema_sha256: str
    mode: Mode = Mode.reasoned
    verdict: str
    reasons: tuple[str, ...] = ()
    temperature: float | None = Field(None, gt=0)
    answer_tokens: int | None = Field(None, ge=1)


def write(folder: Path, note: ModelNote, adapter: Adapter) -> None:
    """The old folder stays whole until the new one is complete."""
    incoming, outgoing = folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")
    for leftover in (incoming, outgoing):
        shutil.rmtree(leftover, ignore_errors=True)
    (incoming / ADAPTER).mkdir(parents=True)
    for name in files_of(adapter.folder):
        shutil.copyfile(adapter.folder / name, incoming / ADAPTER / name)
    write_whole(incoming / NOTE, json.dumps(note.model_dump(), indent=2, ensure_ascii=False).encode() + b"\n")
    if folder.exists():
        folder.rename(outgoing)
    place_folder(incoming, folder)
    shutil.rmtree(outgoing, ignore_errors=True)


def read(folder: Path) -> tuple[Path, ModelNote]:
    """The folder itself or the output of a job, which has it as `model`. Raises: InputError."""
    place = folder if (folder / NOTE).is_file() else folder / "model"
    try:
        return place, ModelNote.model_validate_json((place / NOTE).read_bytes())
    except OSError:
        raise InputError(f"{folder} holds no {NOTE}; name the output directory of `steerwise run`") from None
    except ValidationError as error:
        raise InputError(f"{place / NOTE} cannot be used: {error.errors()[0]['msg']}") from None
