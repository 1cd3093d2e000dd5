"""Every operation, asked by whoever must not: without a key, with one that has ended or may not, and with ids of
another tenant in the path, in the body, in the query and in headers."""

import asyncio
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import httpx

from app.auth.principal import Principal, Scope
from app.infra.db.base import utc_now
from app.studies.security.lab import AttackedCopy, AttackedTenant, Clients, Lab, good, running
from app.studies.security.operations import ApiDocument, AskedRequest, DocumentedOperation
from app.studies.security.results import SliceFound

_NOT_THERE = frozenset({403, 404})
_EXPIRES_S = 1.0
_NOBODY = UUID(int=0)
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# Answered to everyone who has the key for it, and told apart by it; or of the whole platform.
_NAMES_NOTHING = {"get_me"}
_OF_ITS_MOMENT = {"export_tenant"}  # says when its keys were used last
# Files that the installation has rows of and that no training has written: not there for their owner either.
WITHOUT_FILES = {
    "get_gate_report",
    "get_gate_page",
    "get_run_stage_log",
    "get_dataset_upload",
    "get_dataset_rejects",
}


class _KeyCase(NamedTuple):
    """key: None: none is sent."""

    name: str
    key: str | None
    status: int


class _ForeignCase(NamedTuple):
    """names: something by an id of the other tenant, so that it must not be there."""

    where: str
    request: AskedRequest
    names: bool


class _Tally:
    def __init__(self) -> None:
        self.cases = 0
        self.failures: list[str] = []

    def note(self, case: str, wrong: str | None) -> None:
        self.cases += 1
        if wrong is not None:
            self.failures.append(f"{case}: {wrong}")


def run(lab: Lab, _seed: int, _size: int) -> SliceFound:
    """All there are, whatever the seed."""
    target = lab.target()
    try:
        return asyncio.run(_run(lab, target))
    finally:
        lab.done_with(target)


async def _run(lab: Lab, target: AttackedCopy) -> SliceFound:
    tally, api = _Tally(), lab.make_api(target.settings)
    document = ApiDocument(api)
    async with running(api) as clients:
        await _by_keys(clients, target, document, tally)
        await _by_ids(clients, target, document, tally)
    return SliceFound(tally.cases, tally.failures)


# ---------------------------------------------------------------------------------------------------------- by keys


async def _by_keys(clients: Clients, target: AttackedCopy, document: ApiDocument, tally: _Tally) -> None:
    """No body is sent: whoever must not is refused before it matters."""
    mine = target.tenants[0]
    ended = await _ended_keys(clients, mine)
    needed = {scope for one in document.operations() for scope in one.scopes or ()}
    without = {scope: await _key_without(clients, mine, scope) for scope in sorted(needed)}
    for operation in document.operations():
        if operation.scopes is None:
            continue
        path = operation.path.format_map(_AnyId(mine.ids))
        cases = [_KeyCase("no key", None, 401), *(_KeyCase(name, key, 401) for name, key in ended.items())]
        cases += [_KeyCase(f"every scope but {one}", without[one], 403) for one in sorted(operation.scopes)]
        if operation.of_platform:
            cases.append(_KeyCase("an admin of a tenant", mine.admin_key, 403))
        for case in cases:
            answer = await (await clients.of(case.key)).request(operation.method, path)
            wrong = None if answer.status_code == case.status else f"answered {answer.status_code}"
            tally.note(f"{operation.name}, {case.name}", wrong)


class _AnyId(dict[str, str]):
    def __missing__(self, _name: str) -> str:
        return str(_NOBODY)


async def _ended_keys(clients: Clients, mine: AttackedTenant) -> dict[str, str]:
    """By what ended them."""
    admin = await clients.of(mine.admin_key)
    soon = utc_now() + timedelta(seconds=_EXPIRES_S)
    expired = await _key(admin, "expired", [Scope.admin], expires_at=soon.isoformat())
    revoked = await _key(admin, "revoked", [Scope.admin])
    maker = await _key(admin, "maker", [Scope.admin])
    child = await _key(await clients.of(maker["key"]), "child", [Scope.admin])
    for gone in (revoked, maker):
        good(await admin.post(f"/v1/api-keys/{gone['id']}/revoke"))
    await asyncio.sleep(_EXPIRES_S + 0.1)
    return {
        "a key that is none": "sw_no",
        "an expired key": expired["key"],
        "a revoked key": revoked["key"],
        "a key whose maker was revoked": child["key"],
    }


async def _key_without(clients: Clients, mine: AttackedTenant, scope: Scope) -> str:
    """With all scopes but those that allow what this one does."""
    asked = frozenset({scope})
    held = [one for one in Scope if not Principal(_NOBODY, None, frozenset({one})).may(asked)]
    made = await _key(await clients.of(mine.admin_key), f"without {scope}", held)
    return str(made["key"])


async def _key(admin: httpx.AsyncClient, name: str, scopes: list[Scope], **more: Any) -> dict[str, Any]:
    return good(await admin.post("/v1/api-keys", json={"name": name, "scopes": scopes, **more}))


# ----------------------------------------------------------------------------------------------------------- by ids


async def _by_ids(clients: Clients, target: AttackedCopy, document: ApiDocument, tally: _Tally) -> None:
    mine, theirs = target.tenants
    stranger, owner = await clients.of(mine.admin_key), await clients.of(theirs.admin_key)
    operations = [one for one in document.operations() if one.scopes is not None and not one.of_platform]
    before = await _seen_by(owner, document, theirs)
    for operation in operations:
        if unknown := set(operation.path_names) - theirs.ids.keys():
            tally.note(operation.name, f"the installation knows no {', '.join(sorted(unknown))}")
            continue
        for case in _foreign_cases(document, operation, mine, theirs):
            answer = await case.request.sent(stranger, operation)
            wrong = _wrong(answer, case, theirs)
            if wrong is not None and case.where.startswith("body.") and not theirs.shown_in(answer.text):
                of_nobody = await _of_nobody(case.request, theirs).sent(stranger, operation)
                alike = _told(answer) == _told(of_nobody)
                wrong = None if alike else f"{wrong}, and not as for an id of nobody's"
            tally.note(f"{operation.name}, {case.where}", wrong)
    await _by_cursor(stranger, owner, document, theirs, tally)
    for name, seen in (await _seen_by(owner, document, theirs)).items():
        changed = name in before and before[name] != seen
        tally.note(f"{name}, afterwards", "what its owner sees has changed" if changed else None)
    await _check_owner(owner, document, operations, theirs, tally)


def _foreign_cases(
    document: ApiDocument, operation: DocumentedOperation, mine: AttackedTenant, theirs: AttackedTenant
) -> Iterator[_ForeignCase]:
    """What is not theirs in a request is our own, so that it is refused for nothing else."""
    if any(_is_own(theirs.ids[name]) for name in operation.path_names):
        yield _ForeignCase("path", document.request(operation, theirs.ids, mine.ids), True)
    for name in document.fields(operation) or ():
        if name in theirs.ids and _is_own(theirs.ids[name]):
            body = mine.ids | {name: theirs.ids[name]}
            asked = document.request(operation, mine.ids, body)
            if asked.body is not None and asked.body.get(name) == theirs.ids[name]:
                yield _ForeignCase(f"body.{name}", asked, True)
    for name in operation.query_names:
        if name in theirs.ids:
            asked = document.request(operation, mine.ids, in_query={name: theirs.ids[name]})
            yield _ForeignCase(f"query.{name}", asked, False)
    asked = document.request(operation, mine.ids)
    headers = asked.headers | {"X-Tenant": theirs.ids["tenant_id"]}
    if _takes_tenant(operation):
        yield _ForeignCase("X-Tenant", asked._replace(headers=headers), True)


def _is_own(identity: str) -> bool:
    """No number or kind, which others have too."""
    return len(identity) == len(str(_NOBODY))


def _takes_tenant(operation: DocumentedOperation) -> bool:
    return any(one["name"].lower() == "x-tenant" for one in operation.said.get("parameters", []))


def _wrong(answer: httpx.Response, case: _ForeignCase, theirs: AttackedTenant) -> str | None:
    if theirs.shown_in(answer.text):
        return "shows what is the other tenant's"
    if answer.status_code >= 500 or (case.names and answer.status_code not in _NOT_THERE):
        return f"answered {answer.status_code}"
    return None


def _of_nobody(request: AskedRequest, theirs: AttackedTenant) -> AskedRequest:
    """The same, with ids that nobody has in the place of theirs."""
    body = request.body or {}
    foreign = set(theirs.ids.values())
    changed = {
        name: str(uuid4()) if isinstance(value, str) and value in foreign else value
        for name, value in body.items()
    }
    return request._replace(body=changed if request.body is not None else None)


def _told(answer: httpx.Response) -> tuple[int, Any, str]:
    """What an answer says, without what is of the one request alone."""
    said = answer.json() if answer.content else {}
    return answer.status_code, said.get("code"), _ID.sub("", str(said.get("detail")))


async def _by_cursor(
    stranger: httpx.AsyncClient,
    owner: httpx.AsyncClient,
    document: ApiDocument,
    theirs: AttackedTenant,
    tally: _Tally,
) -> None:
    """Where a page of theirs ends, continued by somebody else."""
    for operation in _readings(document):
        if "cursor" not in operation.query_names or operation.of_platform:
            continue
        path = operation.path.format(**theirs.ids)
        page = await owner.get(path, params={"limit": 1})
        cursor = page.json().get("next_cursor") if page.is_success else None
        if cursor is not None:
            answer = await stranger.get(path, params={"cursor": cursor})
            case = _ForeignCase("query.cursor", document.request(operation, theirs.ids), False)
            tally.note(f"{operation.name}, query.cursor", _wrong(answer, case, theirs))


def _readings(document: ApiDocument) -> Iterator[DocumentedOperation]:
    for operation in document.operations():
        if operation.method == "GET" and operation.scopes is not None:
            yield operation


async def _seen_by(
    owner: httpx.AsyncClient, document: ApiDocument, theirs: AttackedTenant
) -> Mapping[str, str]:
    """What stays the same from one reading to the next; times of last use, and usage, do not."""
    seen: list[dict[str, str]] = []
    for _ in range(2):
        found = {}
        for operation in _readings(document):
            still = not operation.of_platform and operation.operation_id not in _OF_ITS_MOMENT
            if still and set(operation.path_names) <= theirs.ids.keys():
                asked = document.request(operation, theirs.ids)
                found[operation.name] = (await asked.sent(owner, operation)).text
        seen.append(found)
    first, second = seen
    return {name: text for name, text in first.items() if second[name] == text and "request_id" not in text}


async def _check_owner(
    owner: httpx.AsyncClient,
    document: ApiDocument,
    operations: list[DocumentedOperation],
    theirs: AttackedTenant,
    tally: _Tally,
) -> None:
    """The same requests find what they name when its owner sends them: else nothing was shown by their refusal."""
    for operation in sorted(operations, key=lambda one: one.method == "DELETE"):
        skipped = operation.operation_id in WITHOUT_FILES | _NAMES_NOTHING
        if skipped or not operation.path_names or not set(operation.path_names) <= theirs.ids.keys():
            continue
        answer = await document.request(operation, theirs.ids).sent(owner, operation)
        found = answer.status_code not in (403, 404)
        tally.note(
            f"{operation.name}, by its owner",
            None if found else f"answered {answer.status_code}: {answer.text[:200]}",
        )
