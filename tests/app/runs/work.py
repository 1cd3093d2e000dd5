"""A worker's process that does one job of a run with the quick trainer, so that it can be killed."""

import sys
from pathlib import Path
from uuid import UUID

from app.jobs.background import load_handlers
from app.jobs.runner import run_job
from app.runs import tasks
from app.runs.supervisor import OnEvent, Result, Stopped, supervise
from app.settings import Settings, load_settings

TRAINER = Path(__file__).with_name("trainer.py")


def run_quick_stage(
    manifest: Path,
    out: Path,
    settings: Settings,
    on_event: OnEvent,
    stopped: Stopped,
    keep: tuple[int, ...] = (),
) -> Result:
    """As app.runs.supervisor.run_stage, but for the program that is started."""
    argv = [sys.executable, str(TRAINER), "run", str(manifest)]
    return supervise(argv, out, settings, on_event, stopped, keep)


def install() -> None:
    load_handlers()
    tasks.run_stage = run_quick_stage
    tasks.MIRROR_S = 0.2


if __name__ == "__main__":
    install()
    run_job(UUID(sys.argv[1]), load_settings())
