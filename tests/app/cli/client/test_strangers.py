"""What people hand to commands: ids that are none, files of every form, conversations that do not fit."""

import json
from pathlib import Path
from uuid import UUID

import pytest

from app.cli.client.api import Api, Json
from app.cli.client.classify import AT_ONCE, MAX_BODY_BYTES, batches
from app.cli.client.profile import Target
from app.cli.client.upload import send, source
from app.jobs import runner
from tests.app.cli.client.conftest import Installation, Shell

PATHS = ("../schemas", "../datasets/8a4e7f0c-2f7d-4d38-9d0f-0f6c3a1b5e21", "x", "%2e%2e", "")


@pytest.mark.parametrize("identity", PATHS)
@pytest.mark.parametrize(
    "command", ["conversations show", "conversations delete", "runs show", "models show", "gates show"]
)
def test_what_is_no_id_is_not_asked_for(command: str, identity: str, tenant: Shell) -> None:
    assert "is no id" in tenant.run(*command.split(), identity, code=2).stderr.replace("\n", " ")


def test_a_file_is_checked_and_then_taken(tenant: Shell, installation: Installation, tmp_path: Path) -> None:
    file = tmp_path / "chats.xlsx.txt"  # the name says nothing
    file.write_bytes("text;intent\nwhere is it;a\n\u200b;b\nwhere is it;c\n".encode("utf-16"))
    dataset = tenant.json("datasets", "create", "spring", "--schema", "support")["id"]
    tenant.run("datasets", "take", dataset, "--no-wait", code=2)

    answered = _checked(installation, dataset, file)
    assert answered["state"] == "empty" and answered["counts"]["conversations"] == 0
    found = answered["findings"]
    assert (found["conversations"], found["rejected"], found["exact_duplicates"]) == (2, 1, 1)
    assert found["taken_for"] == "a table with semicolons between the cells (CSV), in UTF-16"
    assert found["not_read"] == [
        "column `intent` is not read (3 with something in it); if it is the category, call it `category`"
    ]
    assert found["rejects"][0]["line"] == 3

    taken = tenant.json("datasets", "take", dataset, "--no-wait")
    assert taken["state"] == "uploaded"
    runner.run_job(UUID(taken["validation"]["job_id"]), installation.settings)
    ready = tenant.json("datasets", "show", dataset)
    assert (ready["state"], ready["counts"]["conversations"]) == ("ready", 2)
    tenant.run("datasets", "take", dataset, "--no-wait", code=2)


def _checked(installation: Installation, dataset: str, file: Path) -> Json:
    """As `datasets check` does, with the job done here."""
    with Api(Target(installation.url, installation.tenant_key, None)) as api:
        send(api, dataset, source(file), lambda done, total: None, check=True)
        job = api.get(f"/v1/datasets/{dataset}")["validation"]["job_id"]
        runner.run_job(UUID(job), installation.settings)
        return api.get(f"/v1/datasets/{dataset}")


def test_batches_are_cut_by_number_and_by_bytes() -> None:
    small = [{"id": str(number), "text": "x"} for number in range(AT_ONCE + 1)]
    assert [len(part) for part in batches(small)] == [AT_ONCE, 1]
    large = [{"id": str(number), "text": "é" * 200_000} for number in range(5)]
    parts = list(batches(large))
    assert [len(part) for part in parts] == [2, 2, 1]
    assert all(len(json.dumps(part, ensure_ascii=False).encode()) <= MAX_BODY_BYTES for part in parts)
    alone = [{"id": "0", "text": "x"}, {"id": "1", "text": "x" * (2 << 20)}, {"id": "2", "text": "x"}]
    assert [len(part) for part in batches(alone)] == [1, 1, 1]
