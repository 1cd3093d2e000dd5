"""Who may do what: each operation declares it, and it is checked before a byte of a body is read."""

from typing import NoReturn
from uuid import UUID

import anyio
import pytest
from fastapi import FastAPI

from app.auth.dependencies import Caller
from app.auth.principal import KeyRole, Principal, Scope
from app.auth.route import keyed_router
from app.infra.db.scope import TenantScope
from app.main import create_app
from app.settings import Settings
from tests.app.auth.operations import Operation, ask, empty_body, operations
from tests.callers import Callers

pytestmark = pytest.mark.anyio
OPEN = {"GET /livez", "GET /readyz"}
ANY_KEY = {"GET /v1/me"}
NOT_BY_ROLES = {Scope.admin}
_NOBODY = UUID(int=0)


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    return create_app(Settings(home=tmp_path_factory.mktemp("home")))


async def nothing_is_read() -> NoReturn:
    raise AssertionError("the body was read")


def test_every_operation_declares_its_scopes(document: FastAPI) -> None:
    found = list(operations(document))
    assert len(found) > 50
    assert {one.name for one in found if one.scopes is None} == OPEN
    assert {one.name for one in found if one.scopes == frozenset()} == ANY_KEY
    within = {
        Scope.playground
    }  # says who may be answered without a gate, in operations that `classify` opens
    assert frozenset().union(*(one.scopes or () for one in found)) == frozenset(Scope) - within


def test_an_operation_that_declares_nothing_cannot_be_made() -> None:
    router = keyed_router(tags=["planted"])
    with pytest.raises(TypeError, match="must declare its scopes"):

        @router.get("/planted")
        async def planted(caller: Caller) -> None:
            """A key that may do nothing at all would be let in."""


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer sw_no"}, {"Authorization": "Basic a"}])
async def test_without_a_key_nothing_of_a_body_is_read(callers: Callers, headers: dict[str, str]) -> None:
    for operation in operations(callers.api):
        if operation.name not in OPEN:
            answer = await ask(callers.api, operation, nothing_is_read, headers)
            assert answer.status == 401, operation.name


@pytest.mark.seconds
async def test_a_key_does_what_its_scopes_say_and_no_more(callers: Callers, scope: TenantScope) -> None:
    """Without one of the scopes: 403, and nothing of the body is read. With them it comes further."""
    for operation in operations(callers.api):
        if not operation.scopes or operation.scopes == {"admin"}:
            continue
        needed = {Scope(name) for name in operation.scopes}
        for missing in needed:
            others = frozenset(Scope) - _that_include(missing)
            key = await callers.key_of(scope, *others)
            refused = await ask(callers.api, operation, nothing_is_read, _of(key))
            assert refused.status == 403, operation.name
            assert missing in refused.body.decode(), (
                operation.name
            )  # in whatever shape the operation's errors have
        let_in = await ask(callers.api, operation, empty_body(), _of(await callers.key_of(scope, *needed)))
        assert let_in.status not in (401, 403), operation.name


async def test_an_admins_key_of_a_tenant_is_none_of_the_platform(
    callers: Callers, scope: TenantScope
) -> None:
    key = await callers.key_of(scope, Scope.admin)
    tenants = Operation("POST", "/v1/tenants", frozenset({"admin"}), True)
    assert (await ask(callers.api, tenants, nothing_is_read, _of(key))).status == 403


async def test_a_body_that_never_ends_is_refused_by_what_its_header_says(
    callers: Callers,
) -> None:
    key = await callers.key_of(None, Scope.admin)
    for operation in operations(callers.api):
        if operation.takes_a_body and operation.name != "PUT /v1/datasets/{dataset_id}/content":
            headers = _of(key) | {"Content-Length": str(1 << 40), "Content-Type": "application/json"}
            with anyio.fail_after(30):
                refused = await ask(callers.api, operation, nothing_is_read, headers)
            assert refused.status == 413, operation.name


def test_roles_are_sets_of_scopes_and_none_is_an_admin() -> None:
    assert KeyRole.client.scopes == {Scope.classify}
    assert Scope.conversations_read in KeyRole.reviewer.scopes
    assert Scope.datasets_write not in KeyRole.reviewer.scopes
    assert KeyRole.editor.scopes > KeyRole.reviewer.scopes
    for role in KeyRole:
        assert not role.scopes & NOT_BY_ROLES


async def test_a_key_can_be_made_for_a_role(callers: Callers, scope: TenantScope) -> None:
    admin = await callers.of(scope, Scope.admin)
    made = (await admin.post("/v1/api-keys", json={"name": "eyes", "role": "reviewer"})).json()
    assert {Scope(name) for name in made["scopes"]} == KeyRole.reviewer.scopes
    reviewer = await callers.with_key(made["key"])
    assert (await reviewer.get("/v1/datasets")).status_code == 200
    assert (await reviewer.post("/v1/datasets", json={})).status_code == 403


async def test_a_classifying_key_reads_no_conversation(callers: Callers, scope: TenantScope) -> None:
    client = await callers.of(scope, Scope.classify)
    for path in (
        "conversations/x",
        "datasets",
        "datasets/x/conversations",
        "runs",
        "schemas",
        "usage",
        "gates",
    ):
        assert (await client.get(f"/v1/{path}")).status_code == 403, path
    assert (await client.get("/v1/me")).status_code == 200


def _that_include(scope: Scope) -> set[Scope]:
    """Scopes with which a key may do what `scope` allows."""
    allows = {one for one in Scope if Principal(_NOBODY, None, frozenset({one})).may(frozenset({scope}))}
    assert {scope, Scope.admin} <= allows
    return allows


def _of(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}
