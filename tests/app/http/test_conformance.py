"""Every endpoint keeps to the document, whatever it is sent: requests that Schemathesis makes up from the document."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import hypothesis
import pytest
import schemathesis
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from app.auth import service
from app.auth.principal import Scope
from app.auth.service import KeyOrder
from app.infra.db.engine import open_database
from app.infra.db.session import transaction
from app.infra.tables.deployments import DeploymentState
from app.main import create_app
from app.settings import Settings
from tests.factories.rows import deployment_of, ids_of, save, story
from tests.servers import databases
from tests.servers.s3 import serving

pytestmark = pytest.mark.slow
CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
OURS = ("x-tenant", "authorization")  # headers that say who asks
UNENDING = "/v1/runs/{run_id}/events"  # of a run that nobody works on


_GONE = "DELETE /v1/tenants/{tenant_id}"


class Known(NamedTuple):
    """key: of an admin of the platform, who names the tenant. ids: of what the tenant has. spare_id: of another, which
    may go."""

    key: str
    tenant_id: str
    ids: dict[str, Any]
    spare_id: str


class Place(NamedTuple):
    url: str
    known: Known


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder: Path = tmp_path_factory.mktemp("conformance")
    url = databases.sqlite_url(folder)
    settings = Settings(home=folder / "home", database_url=url, storage_url=str(folder / "storage"))
    known = anyio.run(_fill, url)
    with serving(create_app(settings)) as address:
        yield Place(address, known)


@pytest.fixture(scope="module")
def document(place: Place) -> Any:
    return schemathesis.openapi.from_url(f"{place.url}/openapi.json")


def test_every_endpoint_keeps_to_the_document(document: Any, place: Place) -> None:
    asked = [result.ok() for result in document.get_all_operations()]
    assert len(asked) > 50
    wrong: dict[str, str] = {}
    for operation in asked:
        try:
            _walk(operation, place)
        except Exception as error:  # noqa: BLE001 (all of them are told at the end, each with its endpoint)
            wrong[operation.label] = str(error)
    assert wrong == {}


def _walk(operation: Any, place: Place) -> None:
    """Raises: whatever is wrong with an answer."""

    @hypothesis.given(case=operation.as_strategy())
    @hypothesis.settings(
        max_examples=12,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    def ask(case: Any) -> None:
        if operation.path != UNENDING:
            ids = place.known.ids | ({"tenant_id": place.known.spare_id} if operation.label == _GONE else {})
            case.path_parameters = {name: ids[name] for name in case.path_parameters or {}}
        case.headers = {
            name: value for name, value in (case.headers or {}).items() if name.lower() not in OURS
        }
        told = {"Authorization": f"Bearer {place.known.key}", "X-Tenant": place.known.tenant_id}
        answer = case.call_and_validate(headers=told, checks=CHECKS, timeout=60)
        assert answer.status_code not in (401, 403, 500), answer.text

    ask()


async def _fill(url: str) -> Known:
    database = open_database(url)
    told, spare = story(), story()
    live = deployment_of(told, state=DeploymentState.live)
    try:
        async with transaction(database) as session:
            await save(session, *told, live)
            await save(session, *spare)
            own = await service.create(
                session, None, told.tenant.id, KeyOrder("to be revoked", [Scope.classify])
            )
            platform = await service.create(session, None, None, KeyOrder("walker", [Scope.admin]))
    finally:
        await database.engine.dispose()
    ids = ids_of(told, live, own.row.id)
    shown = {name: value if isinstance(value, int) else str(value) for name, value in ids.items()}
    return Known(platform.text, str(told.tenant.id), shown, str(spare.tenant.id))
