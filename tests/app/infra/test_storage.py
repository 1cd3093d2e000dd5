"""A key holds a whole file or nothing, wherever the storage is."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from app.errors import InputError, NoSpace
from app.infra.storage import BadKey, Storage, StorageAway, open_storage
from tests.servers.s3 import Trouble, name_s3, s3_in

KEY = f"{uuid4()}/datasets/{uuid4()}/upload"
OUTSIDE = [
    "",
    "/etc/passwd",
    "../up",
    "a/../../up",
    "a/..",
    ".hidden",
    "a/.hidden",
    "a//b",
    "a/",
    "./a",
    "a\\b",
    "a b",
    "a\x00b",
    "a\n",
    "s3://other/a",
    "ü",
    "a" * 201,
    "/".join("a" * 99 for _ in range(6)),
]


@pytest.fixture(params=["folder", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    if request.param == "folder":
        yield open_storage(str(tmp_path / "storage"))
        return
    monkeypatch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
    with s3_in(tmp_path / "store", monkeypatch) as store:
        yield open_storage("s3://bucket/prefix")
        assert all(place.startswith("bucket/prefix/") for place in store.kept())


@pytest.fixture
def trouble(tmp_path: Path) -> Trouble:
    return Trouble(tmp_path / "store")


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    """The real client, and a store that can be unwell."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with s3_in(tmp_path / "store", monkeypatch):
        yield open_storage("s3://bucket/prefix")


@pytest.fixture
def local(tmp_path: Path) -> Path:
    path = tmp_path / "local"
    path.write_bytes(b"content " * 1000)
    return path


CALLS: dict[str, Callable[[Storage, Path], object]] = {
    "put": lambda storage, path: storage.put_file(path, KEY),
    "get": lambda storage, path: storage.get_file(KEY, path.with_name("copy")),
    "open": lambda storage, _: storage.open_read(KEY),
    "exists": lambda storage, _: storage.exists(KEY),
    "delete": lambda storage, _: storage.delete(KEY),
    "check": lambda storage, _: storage.check(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(
    ("status", "code"), [(500, "InternalError"), (503, "ServiceUnavailable"), (403, "AccessDenied")]
)
def test_no_call_turns_an_error_of_s3_into_an_answer(
    call: Callable[[Storage, Path], object],
    status: int,
    code: str,
    s3: Storage,
    local: Path,
    trouble: Trouble,
) -> None:
    s3.put_file(local, KEY)
    assert s3.exists(KEY)
    trouble.refuse(status, code)
    with pytest.raises(StorageAway):
        call(s3, local)
    trouble.end()
    assert s3.exists(KEY)


def test_a_bucket_that_is_not_there_is_not_an_empty_one(s3: Storage, local: Path, trouble: Trouble) -> None:
    trouble.refuse(404, "NoSuchBucket")
    for call in CALLS.values():
        with pytest.raises(StorageAway):
            call(s3, local)


def test_a_store_that_nobody_listens_for_is_away(monkeypatch: pytest.MonkeyPatch, local: Path) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    name_s3(monkeypatch, "http://127.0.0.1:1")
    storage = open_storage("s3://bucket/prefix")
    for name in ("put", "exists"):
        with pytest.raises(StorageAway):
            CALLS[name](storage, local)


def test_a_write_that_s3_confirms_and_loses_is_noticed(s3: Storage, local: Path, trouble: Trouble) -> None:
    trouble.lose()
    with pytest.raises(StorageAway, match="lost a file"):
        s3.put_file(local, KEY)


def test_no_call_turns_an_error_of_the_disk_into_an_answer(
    tmp_path: Path, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_storage(str(tmp_path / "storage"))
    storage.put_file(local, KEY)

    def broken(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    for name in ("stat", "lstat", "open"):
        monkeypatch.setattr(os, name, broken)
    found = {}
    for name in ("put", "exists", "delete", "check"):
        try:
            CALLS[name](storage, local)
        except Exception as error:  # noqa: BLE001 (while the system's calls are broken, pytest is not to be asked)
            found[name] = type(error)
    monkeypatch.undo()
    assert found == dict.fromkeys(("put", "exists", "delete", "check"), StorageAway)
    assert storage.exists(KEY)


def test_a_folder_that_was_taken_away_is_not_an_empty_storage(tmp_path: Path, local: Path) -> None:
    storage = open_storage(str(tmp_path / "storage"))
    storage.put_file(local, KEY)
    (tmp_path / "storage").rename(tmp_path / "elsewhere")  # as a mount that is gone
    for name in ("exists", "open", "delete", "check", "put"):
        with pytest.raises(StorageAway):
            CALLS[name](storage, local)
    assert not (tmp_path / "storage").exists()  # nothing was written where nobody would find it again


def test_a_file_comes_back_as_it_was(storage: Storage, local: Path, tmp_path: Path) -> None:
    storage.put_file(local, KEY)
    storage.get_file(KEY, tmp_path / "new" / "copy")
    assert (tmp_path / "new" / "copy").read_bytes() == local.read_bytes()
    with storage.open_read(KEY) as stream:
        assert (stream.read(7), stream.read()) == (b"content", local.read_bytes()[7:])


def test_what_is_put_into_a_bucket_is_there_below_its_prefix_and_nowhere_else(
    tmp_path: Path, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_in(tmp_path / "store", monkeypatch) as store:
        open_storage("s3://bucket/prefix").put_file(local, KEY)
        assert store.kept() == [f"bucket/prefix/{KEY}"]


def test_a_file_is_replaced_as_a_whole(storage: Storage, local: Path) -> None:
    storage.put_file(local, KEY)
    local.write_bytes(b"short")
    storage.put_file(local, KEY)
    with storage.open_read(KEY) as stream:
        assert stream.read() == b"short"


def test_a_file_that_was_removed_is_gone_and_may_be_removed_again(storage: Storage, local: Path) -> None:
    storage.put_file(local, KEY)
    assert storage.exists(KEY)
    storage.delete(KEY)
    storage.delete(KEY)
    assert not storage.exists(KEY)


def test_a_folder_of_keys_is_no_file(storage: Storage, local: Path) -> None:
    storage.put_file(local, "a/b/c")
    assert not storage.exists("a/b")
    storage.delete("a/b")
    assert storage.exists("a/b/c")


def test_a_listing_that_we_cannot_read_is_no_outage(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage.files, "find", lambda *_, **__: {f"{storage.root}/a": {}})
    with pytest.raises(KeyError, match="LastModified"):
        storage.listed()


def test_every_file_is_listed_by_its_key(storage: Storage, local: Path, tmp_path: Path) -> None:
    assert storage.listed() == []
    for key in ("b/2", "a/1"):
        storage.put_file(local, key)
    assert storage.listed() == ["a/1", "b/2"]
    left = tmp_path / "storage" / "a" / ".part-of-a-process-that-was-killed"
    if left.parent.is_dir():
        left.touch()
        for path in left.parent.iterdir():
            os.utime(path, (0, 0))
        assert storage.listed(3600) == ["a/1"] and not left.exists()


def test_what_is_not_there_is_not_found(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        storage.get_file(KEY, tmp_path / "copy")
    with pytest.raises(FileNotFoundError):
        storage.open_read(KEY)
    assert list(tmp_path.glob("*copy*")) == []


@pytest.mark.parametrize("key", OUTSIDE)
def test_a_key_that_was_not_made_from_ids_is_refused(key: str, tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "storage"))
    local = tmp_path / "local"
    local.touch()
    for attempt in (
        lambda: storage.put_file(local, key),
        lambda: storage.get_file(key, tmp_path / "copy"),
        lambda: storage.open_read(key),
        lambda: storage.exists(key),
        lambda: storage.delete(key),
    ):
        with pytest.raises(BadKey):
            attempt()


def test_a_link_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "storage"))
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "storage" / "link").symlink_to(tmp_path)
    with pytest.raises(BadKey):
        storage.open_read("link/secret")


def test_a_disk_that_fills_up_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_storage(str(tmp_path / "storage"))
    storage.put_file(local, "a/key")
    before = local.read_bytes()
    local.write_bytes(b"new")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NoSpace):
        storage.put_file(local, "a/key")
    assert [path.name for path in (tmp_path / "storage/a").iterdir()] == ["key"]
    assert (tmp_path / "storage/a/key").read_bytes() == before


def test_only_we_may_enter_the_folder(tmp_path: Path) -> None:
    open_storage(f"file://{tmp_path}/storage")
    assert (tmp_path / "storage").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("url", ["ftp://host/x", "http://host/x", "memory://x"])
def test_an_unknown_kind_of_storage_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="no storage"):
        open_storage(url)
