"""A file is there whole or not at all."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from evaluation.atomic_files import place_folder, whole, write_whole

KILLED = """
import os, sys
from pathlib import Path
from evaluation.atomic_files import whole
with whole(Path(sys.argv[1])) as sink:
    sink.write(b"half")
    sink.flush()
    os._exit(9)
"""


def test_what_was_there_stays_until_the_new_content_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_whole(path, b"first")

    def failing() -> None:
        with whole(path) as sink:
            sink.write(b"half")
            assert path.read_bytes() == b"first"
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        failing()
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (b"first", [path])
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert (killed.returncode, path.read_bytes()) == (9, b"first")
    write_whole(path, b"second")  # what the killed one left is in nobody's way
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (b"second", [path])


def test_content_and_name_are_on_the_disk_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(stat.S_IFMT(os.fstat(number).st_mode)))
    write_whole(tmp_path / "x", b"content")
    assert synced == [stat.S_IFREG, stat.S_IFDIR]


def test_a_folder_takes_its_name_once_all_of_it_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, final, synced = tmp_path / ".made", tmp_path / "final", list[int]()
    (made / "inner").mkdir(parents=True)
    (made / "one").write_bytes(b"1")
    (made / "inner" / "two").write_bytes(b"2")

    def counted(number: int) -> None:
        assert final.exists() == (os.fstat(number).st_ino == tmp_path.stat().st_ino)
        synced.append(os.fstat(number).st_ino)

    monkeypatch.setattr(os, "fsync", counted)
    place_folder(made, final)
    wanted = [final, final / "one", final / "inner", final / "inner" / "two", tmp_path]
    assert sorted(synced) == sorted(path.stat().st_ino for path in wanted)


def test_a_folder_takes_no_place_that_is_taken(tmp_path: Path) -> None:
    for name in (".made", "final"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(name.encode())
    with pytest.raises(OSError):
        place_folder(tmp_path / ".made", tmp_path / "final")
    assert (tmp_path / "final" / "file").read_bytes() == b"final"


def test_a_file_of_secrets_is_never_open_to_others(tmp_path: Path) -> None:
    with whole(tmp_path / "key", mode=0o600) as sink:
        [growing] = tmp_path.iterdir()
        assert stat.S_IMODE(growing.stat().st_mode) == 0o600
        sink.write(b"secret")
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
