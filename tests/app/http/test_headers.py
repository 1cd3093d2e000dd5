"""What browsers are told, by whatever answers; and that the documentation needs nothing from anywhere else."""

import re

import pytest

from app.auth.principal import Scope
from app.http.middleware import ANSWER_HEADERS
from app.infra.db.scope import TenantScope
from tests.app.auth.operations import Operation, ask, empty_body, operations
from tests.callers import Callers

pytestmark = pytest.mark.anyio
OTHERS = ("/nowhere", "/docs", "/openapi.json", "/redoc", "/v1")


async def test_every_answer_has_them(callers: Callers, scope: TenantScope) -> None:
    key = await callers.key_of(scope, Scope.admin)
    asked = [*operations(callers.api), *(Operation("GET", path, None, False) for path in OTHERS)]
    asked.append(Operation("DELETE", "/v1/me", None, False))
    for headers in ({}, {"Authorization": f"Bearer {key}"}):
        for operation in asked:
            answer = await ask(callers.api, operation, empty_body(), headers)
            missing = {name for name in ANSWER_HEADERS if name.lower() not in answer.headers}
            assert missing == set(), operation.name
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == "no-store", operation.name
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'") and "script-src" not in policy, operation.name


async def test_a_new_key_is_kept_by_no_cache(callers: Callers, scope: TenantScope) -> None:
    admin = await callers.of(scope, Scope.admin)
    made = await admin.post("/v1/api-keys", json={"name": "a", "scopes": ["classify"]})
    assert made.status_code == 201 and made.headers["cache-control"] == "no-store"


async def test_the_documentation_is_a_page_without_scripts_and_tells_all_operations(callers: Callers) -> None:
    page = await (await callers.anonymous()).get("/docs")
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    assert "unsafe" not in page.headers["content-security-policy"]
    assert not re.search(r"<script|<link|<img|<iframe|src=|https?://|javascript:|\son\w+=", page.text)
    for operation in operations(callers.api):
        assert f"<code>{operation.path}</code>" in page.text, operation.name
    assert "conversations:read and labels:write" in page.text
    targets = set(re.findall(r'href="#([^"]+)"', page.text))
    assert targets and targets <= set(re.findall(r'id="([^"]+)"', page.text))
