"""A model server that shares no disk with anybody takes adapters out of the storage, and nothing else from there."""

import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.infra.storage import open_storage
from app.serving import adapters
from app.serving.adapter_store import Damaged, fetch_for_serving
from app.serving.fetching import MAX_BODY_BYTES, ROUTE, FetchesAdapters, stored_at
from app.settings import Settings
from tests.app.serving.test_adapters import adapter, encoder

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


class Server:
    """In the place of vLLM: says what reached it."""

    def __init__(self) -> None:
        self.reached: list[tuple[str, bytes]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        lengths = [value for name, value in scope["headers"] if name == b"content-length"]
        assert not body or lengths == [str(len(body)).encode()]
        self.reached.append((scope["path"], body))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of the model server's machine."""
    return Settings(home=tmp_path / "there", storage_url=str(tmp_path / "storage"), vllm_max_lora_rank=16)


@pytest.fixture
def stored(tmp_path: Path) -> tuple[str, str]:
    """Key and SHA-256 of an adapter in the storage."""
    frozen = adapters.freeze(adapter(tmp_path / "made"), tmp_path / "frozen", 16)
    storage, key = open_storage(str(tmp_path / "storage")), f"tenants/t/adapters/{frozen.sha256}/"
    for name in adapters.FILES:
        storage.put_file(frozen.folder / name, key + name)
    return key, frozen.sha256


def test_an_encoder_that_was_trained_with_an_adapter_comes_along_and_is_missed(
    settings: Settings, tmp_path: Path
) -> None:
    source = adapter(tmp_path / "made")
    (source / adapters.ENCODER).write_bytes(encoder())
    frozen = adapters.freeze(source, tmp_path / "frozen", 16)
    storage, key = open_storage(str(tmp_path / "storage")), f"tenants/t/adapters/{frozen.sha256}/"
    for name in adapters.files_of(frozen.folder):
        storage.put_file(frozen.folder / name, key + name)
    folder = fetch_for_serving(storage, settings, key, frozen.sha256)
    assert (folder / adapters.ENCODER).read_bytes() == encoder()
    shutil.rmtree(folder)
    storage.delete(key + adapters.ENCODER)
    with pytest.raises(Damaged):
        fetch_for_serving(storage, settings, key, frozen.sha256)


async def asked(
    server: Server, settings: Settings, body: dict[str, Any] | bytes, path: str = ROUTE
) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    transport = httpx.ASGITransport(FetchesAdapters(server, settings))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://vllm") as client:
        return await client.post(path, content=content)


async def test_an_adapter_is_fetched_checked_and_loaded_from_the_servers_own_disk(
    settings: Settings, stored: tuple[str, str]
) -> None:
    key, sha256 = stored
    server = Server()
    body = {"lora_name": sha256, "lora_path": stored_at(key), "load_inplace": False}
    assert (await asked(server, settings, body)).status_code == 200
    [(path, passed)] = server.reached
    here = settings.home / "adapters" / sha256
    assert path == ROUTE and json.loads(passed) == body | {"lora_path": str(here.resolve())}
    assert adapters.check(here, 16).sha256 == sha256


async def test_what_names_no_key_goes_on_as_it_came(settings: Settings) -> None:
    server = Server()
    for body in (b'{"lora_name": "x", "lora_path": "/a/folder"}', b"{", b"[]", b"", b'{"lora_path": 7}'):
        assert (await asked(server, settings, body)).status_code == 200
        assert server.reached[-1] == (ROUTE, body)
    long = b"x" * (2 * MAX_BODY_BYTES)
    assert (await asked(server, settings, long, "/v1/chat/completions")).status_code == 200
    assert server.reached[-1] == ("/v1/chat/completions", long)


async def test_nothing_is_loaded_that_is_not_what_it_is_named_after(
    settings: Settings, stored: tuple[str, str], tmp_path: Path
) -> None:
    key, sha256 = stored
    server = Server()
    for name, path, said in (
        ("my model", key, "own SHA-256"),
        ("0" * 64, key, "not the one that was put there"),
        (sha256, "../../etc/", "no key"),
        (sha256, "tenants/t/adapters/nothing/", "not in the storage"),
    ):
        answer = await asked(server, settings, {"lora_name": name, "lora_path": stored_at(path)})
        assert answer.status_code == 400 and said in answer.json()["error"]["message"], (name, answer.text)
    (tmp_path / "storage" / key / adapters.CONFIG).write_text("{}")
    answer = await asked(server, settings, {"lora_name": sha256, "lora_path": stored_at(key)})
    assert answer.status_code == 400 and server.reached == []
    assert (await asked(server, settings, b"x" * (MAX_BODY_BYTES + 1))).status_code == 413


async def test_a_storage_that_is_away_is_waited_for(
    settings: Settings, stored: tuple[str, str], tmp_path: Path
) -> None:
    key, sha256 = stored
    (tmp_path / "storage").rename(tmp_path / "elsewhere")
    (tmp_path / "storage").write_text("no folder")
    answer = await asked(Server(), settings, {"lora_name": sha256, "lora_path": stored_at(key)})
    assert answer.status_code == 503 and "storage" in answer.json()["error"]["message"]
