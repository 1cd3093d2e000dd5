"""One `steerwise serve` at a time in a folder; what a killed one has left is in nobody's way."""

import os
import stat
from pathlib import Path

import pytest

from app.errors import InputError
from app.local.home import HomeBusy, locked, log_file, socket_folder


def test_a_second_one_is_refused_with_the_process_that_holds_it(tmp_path: Path) -> None:
    with locked(tmp_path / "home"):
        assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700
        with pytest.raises(HomeBusy, match=f"process {os.getpid()}.*--home"), locked(tmp_path / "home"):
            pass
    with locked(tmp_path / "home"):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="STEERWISE_HOME"), locked(tmp_path / "file" / "home"):
        pass


def test_sockets_of_a_killed_one_are_removed_and_nobody_else_may_look_in(tmp_path: Path) -> None:
    with socket_folder(tmp_path / "home", tmp_path) as first:
        assert stat.S_IMODE(first.stat().st_mode) == 0o700
    first.mkdir()
    (first / "redis.sock").touch()
    with socket_folder(tmp_path / "home", tmp_path) as second:
        assert second == first
        assert list(second.iterdir()) == []
    assert not second.exists()
    with socket_folder(tmp_path / "other", tmp_path) as other:
        assert other != first


def test_a_long_log_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.local.home._MAX_LOG_BYTES", 4)
    path = log_file(tmp_path, "api")
    path.write_text("long enough")
    assert log_file(tmp_path, "api") == path
    assert not path.exists()
    assert path.with_suffix(".log.1").read_text() == "long enough"
