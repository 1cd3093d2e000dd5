"""An object store that the real client of S3 speaks to, and how any server of a test is reached."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from s3fs import S3FileSystem

from app.faults.object_store import LOSING, TROUBLE, ObjectStore


class Trouble:
    """Of the store that keeps its objects in this folder."""

    def __init__(self, folder: Path):
        self._place = folder / TROUBLE

    def refuse(self, status: int, code: str) -> None:
        self._place.write_text(f"{status} {code}")

    def lose(self) -> None:
        self._place.write_text(LOSING)

    def end(self) -> None:
        self._place.unlink()


@contextmanager
def s3_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """Named in the environment, as its client reads it."""
    store = ObjectStore(folder)
    with serving(store) as url:
        name_s3(monkeypatch, url)
        yield store


def name_s3(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    S3FileSystem.clear_instance_cache()  # the server of the test before had another address


@contextmanager
def serving(api: Any) -> Iterator[str]:
    """Its URL, on a free port of the loopback."""
    server = uvicorn.Server(uvicorn.Config(api, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
