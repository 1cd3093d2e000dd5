"""Uploads to a real server in a process of its own, which is killed, and over a connection that breaks."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from app.auth import service as auth
from app.auth.principal import Scope
from app.auth.service import KeyOrder
from app.infra.db.engine import open_database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.tables.tenants import Tenant
from app.schemas import service as schemas
from tests.app.datasets.conftest import DRAFT, JSONL
from tests.servers import databases

pytestmark = [pytest.mark.anyio, pytest.mark.fault]
SERVER = """
import sys, uvicorn
from app.main import create_app
from app.settings import load_settings
uvicorn.run(create_app(load_settings()), uds=sys.argv[1], log_level="warning")
"""
CONTENT = os.urandom(6_500_000)
QUOTA_BYTES = 10_000_000


class Setting(NamedTuple):
    home: Path
    socket: Path
    key: str
    schema_id: str


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Where a server whose home is tmp_path finds it."""
    return databases.sqlite_url(tmp_path)


@pytest.fixture
async def setting(url: str, tmp_path: Path) -> Setting:
    database = open_database(url)
    async with transaction(database) as session:
        session.add(tenant := Tenant(name="one", upload_quota_bytes=QUOTA_BYTES))
        await session.flush()
        order = KeyOrder("editor", [Scope.datasets_write])
        key = await auth.create(session, None, tenant.id, order)
        schema = await schemas.create(session, TenantScope(tenant.id), key.row.id, "orders", DRAFT)
    await database.engine.dispose()
    return Setting(tmp_path, tmp_path / "api.sock", key.text, str(schema.id))


@contextmanager
def serving(setting: Setting) -> Iterator["subprocess.Popen[bytes]"]:
    environment = os.environ | {"STEERWISE_HOME": str(setting.home), "PYTHONPATH": str(Path.cwd())}
    setting.socket.unlink(missing_ok=True)
    with subprocess.Popen([sys.executable, "-c", SERVER, str(setting.socket)], env=environment) as server:
        try:
            while not setting.socket.exists():
                assert server.poll() is None
                time.sleep(0.05)
            yield server
        finally:
            server.kill()


@contextmanager
def client_of(setting: Setting) -> Iterator[httpx.Client]:
    transport = httpx.HTTPTransport(uds=str(setting.socket))
    headers = {"Authorization": f"Bearer {setting.key}"}
    with httpx.Client(transport=transport, base_url="http://api", headers=headers, timeout=60) as client:
        yield client


def new_dataset(setting: Setting, client: httpx.Client) -> str:
    made = client.post("/v1/datasets", json={"name": "chats", "schema_id": setting.schema_id})
    assert made.status_code == 201, made.text
    return f"/v1/datasets/{made.json()['id']}/content"


def send_part(setting: Setting, path: str, start: int, part: bytes) -> socket.socket:
    """The beginning of a request for the rest of CONTENT. Returns the open connection."""
    total = len(CONTENT)
    head = (
        f"PUT {path} HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer {setting.key}\r\n"
        f"Content-Type: application/jsonl\r\nContent-Length: {total - start}\r\n"
        f"Content-Range: bytes {start}-{total - 1}/{total}\r\n\r\n"
    )
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(setting.socket))
    connection.sendall(head.encode() + part)
    return connection


def wait_for_offset(client: httpx.Client, path: str, least: int) -> int:
    deadline = time.monotonic() + 60
    while (now := int(client.head(path).headers["Upload-Offset"])) < least:
        assert time.monotonic() < deadline, f"{now} bytes"
        time.sleep(0.1)
    return now


def go_on(client: httpx.Client, path: str, offset: int) -> dict[str, Any]:
    total = len(CONTENT)
    headers = JSONL | {"Content-Range": f"bytes {offset}-{total - 1}/{total}"}
    while (sent := client.put(path, content=CONTENT[offset:], headers=headers)).status_code == 409:
        assert sent.json()["code"] == "upload_in_progress"  # the broken one has not quite ended
        time.sleep(0.1)
    assert sent.status_code == 202, sent.text
    told: dict[str, Any] = sent.json()
    return told


async def test_a_killed_server_and_then_a_broken_connection_cost_a_block_at_most(setting: Setting) -> None:
    with serving(setting) as server, client_of(setting) as client:
        path = new_dataset(setting, client)
        with send_part(setting, path, 0, CONTENT[:3_500_000]):
            wait_for_offset(client, path, 3 << 20)
            server.send_signal(signal.SIGKILL)
            server.wait()
    with serving(setting), client_of(setting) as client:
        offset = wait_for_offset(client, path, 3 << 20)
        assert offset <= 3_500_000
        send_part(setting, path, offset, CONTENT[offset : offset + 777_777]).close()
        offset = wait_for_offset(client, path, offset + 777_777)
        told = go_on(client, path, offset)
        assert (told["complete"], told["sha256"]) == (True, hashlib.sha256(CONTENT).hexdigest())


async def test_a_refusal_reaches_a_client_that_is_still_sending(setting: Setting) -> None:
    with serving(setting), client_of(setting) as client:
        path = new_dataset(setting, client)
        refused = client.put(path, content=bytes(QUOTA_BYTES * 4), headers=JSONL)
        assert (refused.status_code, refused.json()["code"]) == (409, "upload_quota_exceeded")
        whole = client.put(path, content=CONTENT, headers=JSONL)
        assert whole.status_code == 202
        refused = client.put(path, content=CONTENT, headers=JSONL)
        assert (refused.status_code, refused.json()["code"]) == (409, "dataset_has_content")
