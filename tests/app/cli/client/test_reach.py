"""Whatever the API can do, a command can ask for; and commands ask for nothing that the API does not have."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.main import create_app
from app.settings import Settings
from tests.app.cli.client.conftest import Shell

ID = "8a4e7f0c-2f7d-4d38-9d0f-0f6c3a1b5e21"
# For programs and for those who watch the processes; the two wires are for their own clients.
WITHOUT_COMMAND = {
    "POST /v1/systemone",
    "POST /v1/decisions",
    "GET /v1/models",
    "GET /livez",
    "GET /readyz",
    "HEAD /v1/datasets/{dataset_id}/content",
    "GET /metrics",
}
COMMANDS: dict[str, str] = {
    "GET /v1/me": "whoami",
    "GET /v1/usage": "usage",
    "GET /v1/audit": "audit",
    "GET /v1/tenants": "tenants list",
    "POST /v1/tenants": "tenants create new",
    "GET /v1/tenants/{}": f"tenants show {ID}",
    "PATCH /v1/tenants/{}": f"tenants change {ID} --never-abstain",
    "DELETE /v1/tenants/{}": f"tenants delete {ID} --yes",
    "GET /v1/export": "tenants export {file}.tar",
    "GET /v1/api-keys": "keys list",
    "POST /v1/api-keys": "keys create new",
    "POST /v1/api-keys/{}/revoke": f"keys revoke {ID}",
    "GET /v1/schemas": "schemas list",
    "POST /v1/schemas": "schemas create {file}",
    "GET /v1/schemas/{}": f"schemas diff {ID}",
    "GET /v1/schemas/{}/draft": f"schemas show {ID}",
    "GET /v1/schemas/{}/versions/{}": f"schemas show {ID} --version 1",
    "GET /v1/schemas/{}/versions": f"schemas versions {ID}",
    "GET /v1/schemas/{}/diff": f"schemas diff {ID} 1 2",
    "POST /v1/schemas/{}/publish": f"schemas publish {ID}",
    "GET /v1/schemas/{}/serving": f"schemas serving {ID}",
    "GET /v1/datasets": "datasets list",
    "POST /v1/datasets": f"datasets create new --schema {ID}",
    "GET /v1/datasets/{}": f"datasets show {ID}",
    "DELETE /v1/datasets/{}": f"datasets delete {ID}",
    "GET /v1/datasets/{}/upload": f"datasets upload {ID} {{file}}l",
    "POST /v1/datasets/{}/content": f"datasets take {ID} --no-wait",
    "GET /v1/datasets/{}/rejects": f"datasets rejects {ID}",
    "GET /v1/datasets/{}/conversations": f"conversations list {ID}",
    "POST /v1/datasets/{}/conversations": f"conversations append {ID} {{file}}",
    "GET /v1/conversations/{}": f"conversations show {ID}",
    "DELETE /v1/conversations/{}": f"conversations delete {ID}",
    "PUT /v1/conversations/{}/label": f"conversations label {ID} --none-of-these --version-id {ID}",
    "GET /v1/runs": "runs list",
    "POST /v1/runs": f"runs create --schema {ID} --dataset {ID}",
    "GET /v1/runs/{}": f"runs show {ID}",
    "GET /v1/runs/{}/events": f"runs watch {ID}",
    "GET /v1/runs/{}/stages/{}/log": f"runs log {ID} sft",
    "POST /v1/runs/{}/cancel": f"runs cancel {ID}",
    "POST /v1/runs/{}/retry": f"runs retry {ID}",
    "GET /v1/triggers": "triggers list",
    "POST /v1/triggers": f"triggers create new --schema {ID} --dataset {ID}",
    "POST /v1/triggers/simulate": f"triggers simulate --schema {ID} --dataset {ID} --on drift",
    "GET /v1/triggers/{}": f"triggers show {ID}",
    "PATCH /v1/triggers/{}": f"triggers pause {ID}",
    "DELETE /v1/triggers/{}": f"triggers delete {ID}",
    "POST /v1/triggers/{}/start": f"triggers start {ID}",
    "DELETE /v1/runs/{}": f"runs delete {ID}",
    "GET /v1/maintenance": "maintenance show",
    "PUT /v1/maintenance": "maintenance begin --reason upgrade",
    "DELETE /v1/maintenance": "maintenance end",
    "GET /v1/model-versions": "models list",
    "GET /v1/model-versions/{}": f"models show {ID}",
    "GET /v1/gates": "gates list",
    "POST /v1/gates": f"gates create {ID}",
    "GET /v1/gates/{}": f"gates show {ID}",
    "GET /v1/gates/{}/report": f"gates report {ID}",
    "GET /v1/gates/{}/report.html": f"gates report {ID} --html",
    "GET /v1/deployments": "deployments list",
    "POST /v1/deployments": f"deployments create {ID}",
    "GET /v1/deployments/{}": f"deployments show {ID}",
    "POST /v1/deployments/{}/rollback": f"deployments rollback {ID}",
    "GET /v1/answers": "answers list",
    "GET /v1/answers/export": "answers export {file}l",
    "GET /v1/answers/{}": f"answers show {ID}",
    "POST /v1/answers/{}/feedback": f"answers feedback {ID} --right",
    "DELETE /v1/answers": "answers forget --customer c-17",
    "POST /v1/classify": f"classify --schema {ID} --text hello",
    "POST /v1/classify/stream": f"classify --schema {ID} --text hello --stream",
    "POST /v1/classify/batch": f"classify --schema {ID} --conversation {{file}}l",
}
# Asked for after something else: in the tests of schemas and datasets.
LATER = {"PUT /v1/schemas/{}/draft", "POST /v1/schemas/{}/restore", "PUT /v1/datasets/{}/content"}


class Refusing:
    """Refuses everything, and remembers what was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise NotImplementedError("only http")
        self.asked.append(f"{scope['method']} {scope['path']}")
        await send({"type": "http.response.start", "status": 403, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def plain(path: str) -> str:
    return re.sub(r"\{\w+\}", "{}", path)


def test_every_operation_has_a_command_and_every_command_an_operation(tmp_path: Path) -> None:
    api = create_app(Settings(home=tmp_path))
    operations = {
        f"{method.upper()} {path}" for path, methods in api.openapi()["paths"].items() for method in methods
    }
    assert {plain(one) for one in operations - WITHOUT_COMMAND} == set(COMMANDS) | LATER


@pytest.mark.parametrize("operation", COMMANDS)
def test_a_command_asks_for_its_operation(
    asking: Callable[[Any], Shell], operation: str, tmp_path: Path
) -> None:
    (tmp_path / "file.json").write_text('{"name": "new"}')
    (tmp_path / "file.jsonl").write_text('{"text": "hello"}\n{"text": "where is it"}\n')
    refusing = Refusing()
    command = COMMANDS[operation].format(file=tmp_path / "file.json").split()
    said = asking(refusing).run(*command, code=2).stderr
    assert "403" in said
    method, path = operation.split(" ")
    assert re.fullmatch(f"{method} {re.escape(path).replace(re.escape('{}'), '[^/]+')}", refusing.asked[0])
