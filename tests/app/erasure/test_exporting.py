"""All that a tenant owns, as an archive that stock tools read."""

import io
import json
import subprocess
import tarfile
from pathlib import Path

import httpx
import pytest

from app.auth.principal import Scope
from app.erasure import export
from tests.app.erasure.steps import WORD, lines, trained, upload
from tests.app.runs.conftest import Shop

pytestmark = pytest.mark.anyio


@pytest.mark.seconds
async def test_an_archive_has_every_row_and_every_file(
    shop: Shop, platform: httpx.AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "PIECE_BYTES", 4000)  # so that a table takes several members
    run_id = await trained(shop, await upload(shop, lines()))
    mine = await shop.client.get("/v1/export")
    assert mine.status_code == 200 and mine.headers["content-type"] == "application/x-tar"
    (tmp_path / "tenant.tar").write_bytes(mine.content)
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run(["tar", "-xf", tmp_path / "tenant.tar", "-C", out], check=True)
    told = json.loads((out / "complete.json").read_text())
    rows = {name: read(out, name) for name in ("tenants", "conversations", "labels", "runs", "api_keys")}
    assert [row["id"] for row in rows["tenants"]] == [str(shop.scope.tenant_id)]
    assert [row["id"] for row in rows["runs"]] == [run_id]
    assert len(rows["conversations"]) == 57 == told["tables"]["conversations"]
    assert len({row["id"] for row in rows["conversations"]}) == 57
    assert any(WORD in json.dumps(row["messages"]) for row in rows["conversations"])
    assert len(list((out / "tables").glob("conversations-*.jsonl"))) > 1
    assert all("digest" not in row for row in rows["api_keys"])
    stored = {str(path.relative_to(out / "files")) for path in (out / "files").rglob("*") if path.is_file()}
    assert stored == set(shop.storage.listed()) and told["files"] == len(stored) and told["missing"] == []
    for key in stored:
        with shop.storage.open_read(key) as file:
            assert file.read() == (out / "files" / key).read_bytes()
    named = await platform.get("/v1/export", headers={"X-Tenant": str(shop.scope.tenant_id)})
    assert len(members(named.content)) == len(members(mine.content))
    noted = (await shop.client.get("/v1/audit", params={"action": "platform.read"})).json()["items"]
    assert [event["detail"]["operation"] for event in noted] == ["export_tenant"]
    assert (await platform.get("/v1/export")).status_code == 422
    reader = await shop.callers.of(shop.scope, Scope.conversations_read, Scope.tenant_read)
    assert (await reader.get("/v1/export")).status_code == 403
    theirs = members((await shop.stranger.get("/v1/export")).content)
    assert not any(name.startswith("files/") for name in theirs)


def members(archive: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return opened.getnames()


def read(out: Path, table: str) -> list[dict[str, object]]:
    return [
        json.loads(line)
        for path in sorted((out / "tables").glob(f"{table}-*.jsonl"))
        for line in path.read_text().splitlines()
    ]
