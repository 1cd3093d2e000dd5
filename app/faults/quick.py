"""What a fault run puts in the place of what takes long: a stage's training, and the examination of a gate.

Everything around them is the product's own: claims, leases, folders, checkpoints, artifacts, adapters on the model
servers, verdicts in the transaction that ends the job.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.faults import trainer
from app.gates import service as gates
from app.gates import tasks as gate_tasks
from app.gates.service import GateDecision
from app.gates.tasks import GateWork, PreparedGate
from app.infra import locks
from app.infra.files.repository import NewFile
from app.infra.tables.files import FileKind
from app.jobs.background import load_handlers
from app.jobs.context import JobContext
from app.runs import tasks as run_tasks
from app.runs.supervisor import OnEvent, Result, Stopped, supervise
from app.serving.replica import Replica
from app.serving.replicas import while_serving
from app.settings import Settings
from evaluation.contract.record import conversation_from_text
from evaluation.inference.predictor import VllmPredictor
from evaluation.reporting.report import Verdict
from training.config import StageManifest

STEPS = "STEERWISE_FAULTS_STEPS"  # how many, and seconds of each
FOUND = "STEERWISE_FAULTS_FOUND"  # a file with a line for each trainer that was not alone
_MIRROR_S = 1.0
_QUESTION = conversation_from_text("Hello, I have a question about my order.")


def install() -> None:
    load_handlers()
    for module, name, own in (
        (run_tasks, "run_stage", run_quick_stage),
        (run_tasks, "MIRROR_S", _MIRROR_S),
        (gate_tasks, "_decide", decide_quickly),
    ):
        _put(module, name, own)


def _put(module: Any, name: str, own: Any) -> None:
    assert hasattr(module, name), f"{module.__name__} has no {name} any more"
    setattr(module, name, own)


def run_quick_stage(
    manifest: Path,
    out: Path,
    settings: Settings,
    on_event: OnEvent,
    stopped: Stopped = lambda: False,
    keep: Sequence[int] = (),
) -> Result:
    """As app.runs.supervisor.run_stage, but for the program that is started."""
    told = StageManifest.model_validate_json(manifest.read_bytes())
    argv = [sys.executable, "-I", "-S", str(trainer.__file__), str(out), told.stage.kind, told.sha256]
    argv += os.environ[STEPS].split()
    with (out / ".trainer").open("w") as alone:  # the trainer holds it as long as it lives
        if not locks.take(alone):
            with Path(os.environ[FOUND]).open("a") as lines:
                lines.write(f"{out}\n")
        return supervise(argv, out, settings, on_event, stopped, (*keep, alone.fileno()))


async def decide_quickly(
    context: JobContext, work: GateWork, prepared: PreparedGate, replica: Replica
) -> GateDecision:
    """Every adapter is loaded and answers one question; then the gate has passed."""
    for one in prepared.candidates:
        await replica.load(one.folder, one.sha256)
    last = prepared.candidates[-1].sha256
    predictor = VllmPredictor(replica.client, last, prepared.codes, mode=work.gate.mode)
    await while_serving(replica, [last], predictor.predict(work.schema, _QUESTION))
    key = f"tenants/{context.scope.tenant_id}/gates/{work.gate.id}/{context.ticket.epoch}/report.json"
    report = context.workdir / "report.json"
    report.write_text("{}")
    made_from = work.made_from._replace(run_id=work.run.id, gate_id=work.gate.id)
    for name in (gates.page_key(key), key):
        await context.files.put(report, NewFile(name, FileKind.report, made_from))
    return GateDecision(Verdict.passed, ["asked one question"], work.gate.policy_sha256, key)
