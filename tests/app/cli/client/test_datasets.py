"""Uploads: with progress, over connections that break, and never twice."""

import gzip
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import UUID

import pytest

from app.jobs import runner
from tests.app.cli.client.conftest import Installation, Shell


def rows(count: int) -> bytes:
    return b"".join(
        json.dumps(
            {"id": f"c{i}", "messages": [{"role": "customer", "text": f"where is order {i}?"}]}
        ).encode()
        + b"\n"
        for i in range(count)
    )


def file_of(folder: Path, content: bytes, name: str = "chats.jsonl") -> str:
    (folder / name).write_bytes(content)
    return str(folder / name)


def work(installation: Installation, dataset: dict[str, dict[str, str]]) -> None:
    runner.run_job(UUID(dataset["validation"]["job_id"]), installation.settings)


class Cutter(threading.Thread):
    """A way to a server; the first connection that has carried so many bytes there is cut, and only that one."""

    def __init__(self, url: str, after_bytes: int):
        super().__init__(daemon=True)
        host, _, port = url.removeprefix("http://").partition(":")
        self.target = (host, int(port))
        self.left: int | None = after_bytes
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def run(self) -> None:
        with suppress(OSError):  # closed by the test
            while True:
                near, _ = self.listener.accept()
                far = socket.create_connection(self.target)
                for source, sink, counted in ((near, far, True), (far, near, False)):
                    threading.Thread(target=self.carry, args=(source, sink, counted), daemon=True).start()

    def carry(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        with suppress(OSError):
            while block := source.recv(65536):
                if counted and self.left is not None:
                    self.left -= len(block)
                    if self.left < 0:
                        self.left = None
                        break
                sink.sendall(block)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def cutting(url: str, after_bytes: int) -> Iterator[Cutter]:
    cutter = Cutter(url, after_bytes)
    cutter.start()
    try:
        yield cutter
    finally:
        cutter.listener.close()


def test_a_file_becomes_a_dataset(tenant: Shell, installation: Installation, tmp_path: Path) -> None:
    packed = file_of(tmp_path, gzip.compress(rows(30) + b"nonsense\n"), "chats.jsonl.gz")
    made = tenant.json("datasets", "create", "spring", "--schema", "support", "--file", packed, "--no-wait")
    assert made["state"] == "uploaded"
    work(installation, made)
    ready = tenant.json("datasets", "show", "spring")
    assert (ready["state"], ready["counts"]["conversations"], ready["counts"]["rejected"]) == ("ready", 30, 1)
    assert json.loads(tenant.run("datasets", "rejects", "spring").stdout)["line"] == 31
    assert "30 (0 labelled)" in tenant.run("datasets", "show", "spring").stdout
    assert len(tenant.json("conversations", "list", "spring", "--all")) == 30


def test_the_same_file_again_changes_nothing_and_another_is_refused(tenant: Shell, tmp_path: Path) -> None:
    dataset = tenant.json("datasets", "create", "spring", "--schema", "support")["id"]
    for _ in range(2):
        sent = tenant.json("datasets", "upload", dataset, file_of(tmp_path, rows(5)), "--no-wait")
        assert sent["state"] == "uploaded"
    refused = tenant.run("datasets", "upload", dataset, file_of(tmp_path, rows(6)), "--no-wait", code=2)
    assert "has another file" in refused.stderr


@pytest.mark.slow
def test_an_upload_whose_connection_breaks_goes_on_by_itself(
    tenant: Shell, installation: Installation, tmp_path: Path
) -> None:
    content = rows(60_000)
    path = file_of(tmp_path, content)
    dataset = tenant.json("datasets", "create", "spring", "--schema", "support")["id"]
    with cutting(installation.url, 3 << 20) as cutter:
        sent = tenant.within(STEERWISE_URL=cutter.url).json("datasets", "upload", dataset, path, "--no-wait")
        assert cutter.left is None, "nothing was cut"
    assert sent["state"] == "uploaded"
    events = tenant.run("datasets", "show", dataset)
    assert "uploaded" in events.stdout


def test_a_file_that_cannot_be_one_is_refused_before_anything_is_made(tenant: Shell, tmp_path: Path) -> None:
    create = ("datasets", "create", "spring", "--schema", "support", "--file")
    for path, said in (
        (str(tmp_path / "none.jsonl"), "cannot be read"),
        (file_of(tmp_path, b"", "empty.csv"), "is empty"),
    ):
        assert said in tenant.run(*create, path, code=2).stderr
    assert [found["name"] for found in tenant.json("datasets", "list")] == ["march"]


@pytest.mark.seconds
def test_a_file_without_a_usable_line_ends_with_2_and_says_where_to_look(
    tenant: Shell, installation: Installation, tmp_path: Path
) -> None:
    path = file_of(tmp_path, b"nonsense\n")
    work(
        installation,
        tenant.json("datasets", "create", "bad", "--schema", "support", "--file", path, "--no-wait"),
    )
    ended = tenant.run("datasets", "upload", "bad", path, "--no-wait", "--restart")
    assert ended.exit_code == 0  # a failed one takes a file again
    again = tenant.json("datasets", "show", "bad")
    work(installation, again)
    failed = tenant.run("datasets", "upload", "bad", file_of(tmp_path, b"more nonsense\n"), "--no-wait")
    assert "uploaded" in failed.stdout


def test_single_conversations_are_added_labelled_and_removed(
    tenant: Shell, installation: Installation, tmp_path: Path
) -> None:
    body = {
        "id": "one",
        "messages": [{"role": "customer", "text": "money back, please"}],
        "category": "refund",
    }
    (tmp_path / "one.json").write_text(json.dumps(body))
    added = tenant.json("conversations", "append", "march", str(tmp_path / "one.json"))
    assert added["label"]["category_key"] == "refund"
    version = str(installation.told.version.id)
    labelled = tenant.json(
        "conversations", "label", added["id"], "--none-of-these", "--version-id", version, "--correction"
    )
    assert (labelled["label"]["category_key"], labelled["label"]["source"]) == (None, "correction")
    assert "money back" in tenant.run("conversations", "show", added["id"]).stdout
    assert tenant.json("conversations", "delete", added["id"])["id"] == added["id"]


def test_a_dataset_is_deleted(tenant: Shell) -> None:
    made = tenant.json("datasets", "create", "spring", "--schema", "support")
    assert tenant.json("datasets", "delete", "spring")["deleted"]
    assert made["id"] not in tenant.run("datasets", "list").stdout
