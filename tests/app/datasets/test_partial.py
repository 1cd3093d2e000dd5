"""A file that is still coming in: what is on the disk is what is known about it."""

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.datasets import partial
from app.datasets.partial import UploadInProgress


def test_pieces_make_the_file_and_its_digest(tmp_path: Path) -> None:
    path = partial.path_of(tmp_path / "uploads", "a")
    content = os.urandom(3_000_000)
    at = 0
    for size in (1, 999_999, 1_000_000, 1_000_000):
        with partial.opened(path) as file:
            assert file.received_bytes == partial.size_of(path) == at
            file.begin(at)
            file.append(content[at : at + size])
            at += size
            assert file.sha256 == hashlib.sha256(content[:at]).hexdigest()
    assert path.read_bytes() == content
    assert path.stat().st_mode & 0o777 == 0o600


def test_beginning_again_forgets_what_was_there(tmp_path: Path) -> None:
    path = partial.path_of(tmp_path, "a")
    with partial.opened(path) as file:
        file.begin(0)
        file.append(b"old content")
    with partial.opened(path) as file:
        file.begin(0)
        file.append(b"new")
        assert file.sha256 == hashlib.sha256(b"new").hexdigest()
    assert path.read_bytes() == b"new"


def test_two_requests_cannot_write_to_one_file(tmp_path: Path) -> None:
    path = partial.path_of(tmp_path, "a")
    with partial.opened(path) as file:
        with pytest.raises(UploadInProgress), partial.opened(path):
            pass
        file.begin(0)
        file.append(b"x")
    with partial.opened(path) as file:
        assert file.received_bytes == 1


@pytest.mark.seconds
def test_what_a_killed_process_wrote_is_there_and_its_lock_is_not(tmp_path: Path) -> None:
    path = partial.path_of(tmp_path, "a")
    program = """
import sys, time
from pathlib import Path
from app.datasets import partial
with partial.opened(Path(sys.argv[1])) as file:
    file.begin(0)
    file.append(b"x" * 1_000_000)
    print("written", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdout.readline() == b"written\n"
        with pytest.raises(UploadInProgress), partial.opened(path):
            pass
        child.kill()
    with partial.opened(path) as file:
        assert file.received_bytes == 1_000_000


def test_nothing_is_left_where_nothing_came(tmp_path: Path) -> None:
    path = partial.path_of(tmp_path, "a")
    with partial.opened(path) as file:
        file.begin(0)
    assert not path.exists() and partial.size_of(path) == 0


def test_only_files_that_nobody_came_back_for_are_removed(tmp_path: Path) -> None:
    old, busy, new = (partial.path_of(tmp_path, name) for name in ("old", "busy", "new"))
    for path in (old, busy, new):
        path.write_bytes(b"x")
    (tmp_path / "other").write_bytes(b"x")
    for path in (old, busy, tmp_path / "other"):
        os.utime(path, (time.time() - 10_000,) * 2)
    with partial.opened(busy):
        partial.remove_abandoned(tmp_path, older_than_s=5_000)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["busy.part", "new.part", "other"]
    partial.remove_abandoned(tmp_path / "nowhere")
