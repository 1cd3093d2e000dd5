"""A base behind a vLLM of its own, for as long as a bench asks it."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from app.cli.console import Progress
from app.serving.base import ModelBase
from app.serving.vllm import VllmProcess, serving
from app.settings import Settings

ANSWER_TIMEOUT_S: Final = 1800.0
"""Of one answer: hours of asking are not given up for one that waits behind many, where a machine does much else."""
_START = "start vLLM"


@contextmanager
def served(base: ModelBase, settings: Settings, progress: Progress) -> Iterator[VllmProcess]:
    """Raises: ServingError."""
    with (
        tempfile.TemporaryDirectory(prefix="steerwise-bench-", ignore_cleanup_errors=True) as folder,
        serving(
            base.folder, Path(folder) / "vllm.log", settings, lambda _passed: progress.update(_START, 0, None)
        ) as vllm,
    ):
        progress.end(_START)
        yield vllm
