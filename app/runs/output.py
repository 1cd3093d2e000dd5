"""The output directory of a job: whose it is, what in it is still valid, and where each thing lies."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from app.errors import InputError, NoSpace, OutputBusy
from app.infra import locks
from app.runs.inputs import Inputs, jsonl
from app.runs.supervisor import read_result
from app.serving.adapters import FILES
from evaluation.atomic_files import write_whole
from evaluation.contract.record import Split
from training.config import StageManifest, validates
from training.protocol import ADAPTER, MANIFEST, TRACES

_STATE = "run.json"


class Output(NamedTuple):
    root: Path

    @property
    def stages(self) -> Path:
        return self.root / "stages"

    @property
    def adapters(self) -> Path:
        return self.root / "adapters"

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def report(self) -> Path:
        return self.root / "report.json"

    @property
    def page(self) -> Path:
        return self.root / "report.html"

    @property
    def doubted(self) -> Path:
        return self.root / "labels-to-review.jsonl"

    @property
    def vllm_log(self) -> Path:
        return self.root / "vllm.log"


@contextmanager
def opened(root: Path, min_free_mib: int) -> Iterator[Output]:
    """The directory, ours alone while the context lasts. Raises: InputError, OutputBusy, NoSpace."""
    _check(root, min_free_mib)
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = (root / ".lock").open("w")
    except OSError as error:
        raise InputError(f"{root} cannot be written: {error.strerror}") from None
    with lock:
        if not locks.take(lock):
            raise OutputBusy(f"another steerwise is at work in {root}; wait for it or choose another --out")
        if not (root / _STATE).exists():
            write_whole(root / _STATE, b"{}")
        yield Output(root)


def state(output: Output) -> dict[str, Any]:
    try:
        content = json.loads((output.root / _STATE).read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def set_state(output: Output, **content: str) -> None:
    write_whole(output.root / _STATE, json.dumps(content, indent=2).encode())


def start_over_if_changed(output: Output, key: str) -> None:
    """key: of everything that every stage depends on; stages made from something else are removed."""
    if state(output).get("key") == key:
        return
    shutil.rmtree(output.stages, ignore_errors=True)
    set_state(output, key=key)


def write_inputs(output: Output, inputs: Inputs) -> Path:
    """Under a name made from the content, so that a manifest that names it cannot come to mean something else."""
    folder = output.root / "inputs" / inputs.sha256[:12]
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "schema.json", inputs.schema.model_dump_json(indent=2).encode())
    for split in Split:
        if inputs.splits[split]:
            write_whole(folder / f"{split}.jsonl", jsonl(inputs.splits[split]))
    return folder


def keep_files(output: Output, files: Sequence[Path]) -> tuple[Path, ...]:
    """Copies, each in a folder named after its content. Raises: InputError."""
    kept = []
    for file in files:
        try:
            content = file.read_bytes()
        except OSError as error:
            raise InputError(f"{file} cannot be read: {error.strerror}") from None
        folder = output.root.resolve() / "inputs" / hashlib.sha256(content).hexdigest()[:12]
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / file.name, content)
        kept.append(folder / file.name)
    return tuple(kept)


def validation_in(folder: Path, inputs: Inputs, stage: BaseModel) -> Path | None:
    """What a stage that wants to is validated on, of the files of `write_inputs`. Raises: InputError."""
    if not validates(stage):
        return None
    if not inputs.splits[Split.validation]:
        raise InputError(
            "validate_every is set, but there is no labelled conversation in the validation split"
        )
    return folder / f"{Split.validation}.jsonl"


def finished(manifest: StageManifest) -> bool:
    """The stage succeeded with this very manifest, and what it made is still there."""
    result = read_result(manifest.out)
    if result is None or not result.succeeded or result.manifest_sha256 != manifest.sha256:
        return False
    made = (TRACES,) if manifest.stage.kind == "traces" else tuple(f"{ADAPTER}/{name}" for name in FILES)
    return all((manifest.out / name).is_file() for name in made)


def prepare(manifest: StageManifest, later: list[Path]) -> Path:
    """The manifest on disk. What another manifest left goes, and later stages too: they learned from the old result."""
    path = manifest.out / MANIFEST
    for folder in later:
        shutil.rmtree(folder, ignore_errors=True)
    if manifest.out.exists() and _sha256_in(path) != manifest.sha256:
        shutil.rmtree(manifest.out)
    manifest.out.mkdir(parents=True, exist_ok=True)
    write_whole(path, manifest.model_dump_json(indent=2).encode())
    return path


def key_of(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _sha256_in(path: Path) -> str | None:
    """None where there is no manifest of this version."""
    try:
        return StageManifest.model_validate_json(path.read_bytes()).sha256
    except (OSError, ValidationError):
        return None


def _check(root: Path, min_free_mib: int) -> None:
    if root.exists() and not root.is_dir():
        raise InputError(f"--out {root} is a file; name a directory")
    if (
        root.is_dir()
        and any(root.iterdir())
        and not (root / _STATE).exists()
        and not (root / ".lock").exists()
    ):
        raise InputError(f"--out {root} holds something else; name a new directory or that of an earlier run")
    existing = next(parent for parent in (root, *root.absolute().parents) if parent.exists())
    free_mib = shutil.disk_usage(existing).free >> 20
    if free_mib < min_free_mib:
        raise NoSpace(
            f"{existing} has {free_mib} MiB free and a run needs {min_free_mib} MiB; free some space first"
        )
