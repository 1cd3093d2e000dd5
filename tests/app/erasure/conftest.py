"""The shop of the runs, whose stages are done in this process: they leave the same behind, and take no time."""

import importlib.util
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from app.datasets.tasks import validate
from app.infra.tables.jobs import JobKind
from app.jobs.handlers import HANDLERS
from app.runs import kinds, tasks
from app.runs.supervisor import Result, _judged, read_result
from tests.app.runs.conftest import play, settings, shop
from tests.app.runs.work import TRAINER
from training.protocol import LOG

__all__ = ["play", "quick_stages", "settings", "shop"]


@pytest.fixture
def quick_stages(play: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = _trainer()
    monkeypatch.setattr(trainer, "PLAY", play)

    def run_stage(manifest: Path, out: Path, *_: Any) -> Result:
        monkeypatch.setattr(sys, "argv", ["trainer", "run", str(manifest)])
        with (out / LOG).open("a") as printed, redirect_stdout(printed):
            code = trainer.main()
        return _judged(read_result(out), code, out)

    monkeypatch.setattr(tasks, "run_stage", run_stage)
    # Tests of jobs leave the registry empty, and a module registers once.
    monkeypatch.setitem(HANDLERS, JobKind.validate_dataset, validate)
    for kind in kinds.STAGES:
        monkeypatch.setitem(HANDLERS, kind, tasks.train)


def _trainer() -> ModuleType:
    """The program, as a module of its own."""
    os.environ.setdefault("STEERWISE_TEST_PLAY", ".")
    spec = importlib.util.spec_from_file_location("quick_trainer", TRAINER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
