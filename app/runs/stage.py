"""One stage of a run on one machine: what it learns from, brought here; its process; what it made, put away.

Everything here waits for the disk, the network or the process, and runs in a thread. It is written so that any attempt
may be the one that does a part of it: files have names made from their content, and are put away before they are told
of.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from app.errors import InputError
from app.infra.db.scope import TenantScope
from app.infra.files.door import FileDoor
from app.infra.files.repository import MadeFrom, NewFile
from app.infra.storage import Storage
from app.infra.tables.files import FileKind
from app.runs import artifacts, checkpoints, output
from app.runs.artifacts import StageResult
from app.runs.folders import RunFolder, teachers_answers
from app.runs.inputs import Inputs, check_lengths, checked
from app.runs.output import Output
from app.runs.supervisor import Result, read_result
from app.serving.adapter_store import fetch_adapter
from app.serving.base import ModelBase, codes_for, context_of, token_counter
from app.settings import Settings
from evaluation.contract.record import parse_jsonl
from evaluation.contract.schema import CategorySchema
from training.config import Distill, Rl, Sft, StageManifest, Traces
from training.protocol import ADAPTER, GOES_ON_FROM, READ_TRACES, TRACES


class SnapshotFile(NamedTuple):
    key: str
    sha256: str


class StageWork(NamedTuple):
    """number: the stage's place in the run, from 1. earlier: what the stages before it have made, by kind.

    spent_usd: by earlier attempts, with each teacher of the installation. answers_id: of the file with what teachers
    have answered about the dataset; None of a stage that asks none.
    """

    run_id: UUID
    scope: TenantScope
    number: int
    stage: Traces | Sft | Distill | Rl
    seed: int
    schema: CategorySchema
    snapshot: SnapshotFile
    earlier: Mapping[str, StageResult]
    base: ModelBase
    base_sha256: str
    spent_usd: Mapping[str, float] = {}
    answers_id: UUID | None = None

    @property
    def kind(self) -> str:
        return self.stage.kind


class Workspace(NamedTuple):
    """workdir: of this attempt alone. files: through which whatever the stage makes comes into the storage."""

    files: FileDoor
    settings: Settings
    folder: RunFolder
    workdir: Path

    @property
    def storage(self) -> Storage:
        return self.files.storage


class PreparedStage(NamedTuple):
    """inputs_hash: of everything that the result follows from. notices: what the reader of the run should know."""

    manifest: StageManifest
    path: Path
    inputs_hash: str
    notices: tuple[str, ...]

    @property
    def out(self) -> Path:
        return self.manifest.out


def prepare(workspace: Workspace, work: StageWork) -> PreparedStage:
    """Raises: InputError, Damaged, AdapterRefused, FileNotFoundError, NoSpace."""
    for made in work.earlier.values():
        if made.base_sha256 != work.base_sha256:
            raise InputError("the base model was changed while the run was under way; start a new run")
    inputs = _inputs(workspace, work)
    if work.kind == "traces":
        codes = codes_for(work.base.folder, work.schema)
        room = context_of(work.base.folder, workspace.settings)
        check_lengths(inputs, codes.texts, token_counter(work.base.folder), room)
    data = output.write_inputs(Output(workspace.folder.root), inputs)
    manifest = StageManifest(
        stage=work.stage,
        base=str(work.base.folder),
        adapter=_adapter(workspace, work),
        category_schema=work.schema,
        conversations=data / "train.jsonl",
        validation=output.validation_in(data, inputs, work.stage),
        traces=_traces(workspace, work),
        answers=_answers(workspace, work),
        out=workspace.folder.stage(work.number, work.kind),
        seed=work.seed,
    )
    path = output.prepare(manifest, [])
    notices = inputs.notices if work.kind == "traces" else ()
    return PreparedStage(manifest, path, output.key_of(manifest.sha256, work.base_sha256), notices)


def _answers(workspace: Workspace, work: StageWork) -> Path | None:
    if work.answers_id is None:
        return None
    return teachers_answers(workspace.settings, work.answers_id)


def _inputs(workspace: Workspace, work: StageWork) -> Inputs:
    path = artifacts.fetch_file(
        workspace.storage, work.snapshot.key, work.snapshot.sha256, workspace.folder.snapshot
    )
    parsed = parse_jsonl(path.read_bytes(), work.schema)
    if parsed.rejects:  # the snapshot was written by us, for this very schema version
        first = parsed.rejects[0]
        raise InputError(f"the frozen dataset has a line that cannot be used: {first.line}: {first.reason}")
    return checked(work.schema, parsed.conversations)


def _adapter(workspace: Workspace, work: StageWork) -> Path | None:
    """Each stage goes on with the adapter of the one before it."""
    before = GOES_ON_FROM.get(work.kind)
    if before is None:
        return None
    made = work.earlier[before]
    assert made.adapter_key is not None
    return fetch_adapter(workspace.storage, made.adapter_key, made.sha256, workspace.folder.adapters)


def _traces(workspace: Workspace, work: StageWork) -> Path | None:
    if work.kind not in READ_TRACES:
        return None
    made = work.earlier["traces"]
    local = workspace.folder.traces(made.sha256)
    return artifacts.fetch_file(workspace.storage, made.artifact_key, made.sha256, local)


def earlier_result(workspace: Workspace, work: StageWork, prepared: PreparedStage) -> StageResult | None:
    """What an attempt before this one had finished: told of in the storage, or left in this machine's folder."""
    told = artifacts.read_done(workspace.storage, _done_key(work, prepared))
    if told is None and output.finished(prepared.manifest):
        return put_away(workspace, work, prepared)
    return told


def start_over(prepared: PreparedStage) -> None:
    """What lies in the folder was made from something else, such as another base under the same name."""
    checkpoints.drop(prepared.out)


def restore(workspace: Workspace, prepared: PreparedStage, kept: str | None) -> bool:
    """kept: key of the checkpoint in the storage. Whether it was newer than what lies here, and is now here."""
    here = checkpoints.newest(prepared.out, prepared.manifest.sha256)
    if kept is None or (here is not None and here.step >= checkpoints.step_of(kept)):
        return False
    if not workspace.storage.exists(kept):
        return False
    checkpoints.restore(workspace.storage, kept, prepared.out, workspace.workdir)
    return True


def keep_checkpoint(
    workspace: Workspace, work: StageWork, prepared: PreparedStage, last_step: int
) -> str | None:
    """The key of a checkpoint that is newer than `last_step`, if there is one, and is now in the storage."""
    found = checkpoints.newest(prepared.out, prepared.manifest.sha256)
    if found is None or found.step <= last_step:
        return None
    packed = checkpoints.pack(found, workspace.workdir)
    if packed is None:
        return None
    folder = artifacts.run_key(work.scope, work.run_id, "checkpoints")
    key = checkpoints.key_of(folder, work.kind, found.step)
    made = NewFile(key, FileKind.checkpoint, MadeFrom(run_id=work.run_id))
    workspace.files.put_from_thread(packed, made)
    packed.unlink()
    return key


def put_away(workspace: Workspace, work: StageWork, prepared: PreparedStage) -> StageResult:
    """Raises: AdapterRefused, NoSpace."""
    result = read_result(prepared.out)
    assert result is not None and result.succeeded
    files = workspace.files
    if work.kind == "traces":
        path = prepared.out / TRACES
        key, sha256 = artifacts.put_traces(files, work.run_id, path)
    else:
        shutil.rmtree(workspace.workdir / "frozen", ignore_errors=True)
        rank = workspace.settings.vllm_max_lora_rank
        source = prepared.out / ADAPTER
        key, sha256 = artifacts.put_adapter(files, work.run_id, source, workspace.workdir, rank)
    made = StageResult(
        kind=work.kind,
        artifact_key=key,
        adapter_key=None if work.kind == "traces" else key,
        sha256=sha256,
        metrics=_metrics(result),
        seconds=float(result.body.get("wall_s") or 0.0),
        base_sha256=work.base_sha256,
    )
    artifacts.note_done(files, work.run_id, _done_key(work, prepared), made, workspace.workdir)
    return made


def _metrics(result: Result) -> dict[str, object]:
    names = ("step", "tokens", artifacts.PEAK)
    counted = {name: result.body[name] for name in names if result.body.get(name) is not None}
    return {**(result.body.get("metrics") or {}), **counted}


def _done_key(work: StageWork, prepared: PreparedStage) -> str:
    return artifacts.run_key(work.scope, work.run_id, "done", f"{work.kind}-{prepared.inputs_hash}.json")
