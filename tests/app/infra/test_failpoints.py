"""A failpoint does nothing unless a fault run names its folder, and then ends one process, once."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.infra import failpoints
from app.infra.db.engine import Database
from app.infra.db.session import transaction

ASKING = "from app.infra import failpoints; failpoints.reached('here/it is'); print('went on')"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (failpoints.SEEN, failpoints.ARMED, failpoints.HIT):
        (tmp_path / name).mkdir()
    return tmp_path


def come_to_it(folder: Path | None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | ({} if folder is None else {failpoints.VARIABLE: str(folder)})
    return subprocess.run([sys.executable, "-c", ASKING], env=environment, capture_output=True, text=True)


def test_without_its_folder_it_does_nothing() -> None:
    assert come_to_it(None).stdout == "went on\n"


def test_an_armed_one_ends_the_first_process_that_comes_to_it(folder: Path) -> None:
    (folder / failpoints.ARMED / "here_it_is").touch()
    assert come_to_it(folder).returncode == -signal.SIGKILL
    assert (folder / failpoints.HIT / "here_it_is").read_text().isdigit()
    assert come_to_it(folder).stdout == "went on\n"
    assert [path.name for path in (folder / failpoints.SEEN).iterdir()] == ["here_it_is"]


@pytest.mark.anyio
async def test_every_transaction_that_writes_has_one_before_and_one_after_its_commit(
    database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(failpoints.VARIABLE, str(folder))
    monkeypatch.setattr(failpoints, "_noted", {})  # the same place, a moment ago on another database
    async with transaction(database):
        pass
    async with transaction(database, read_only=True):
        pass
    here = f"{__name__}.test_every_transaction_that_writes_has_one_before_and_one_after_its_commit"
    seen = sorted(path.name for path in (folder / failpoints.SEEN).iterdir())
    assert seen == [f"{here}.after_commit", f"{here}.before_commit"]
