"""The worst body of every operation against the event loop, in which meanwhile nobody else is answered."""

import asyncio

import httpx
from fastapi import FastAPI

from app.auth.route import KeyedRoute
from app.http import server
from app.http.bodies import max_bytes_of
from app.studies.security import hostile_bodies
from app.studies.security.lab import AttackedCopy, Lab, running
from app.studies.security.loop_holds import Holds, watched
from app.studies.security.operations import ApiDocument, DocumentedOperation
from app.studies.security.results import SliceFound

MAX_HOLD_S = 0.1
MAX_STARVED_S = 0.5  # of processor time, of all threads together, without a turn of the loop
_MOST_ANSWERED = 100_000  # bytes, of what is wrong with a body


def run(lab: Lab, _seed: int, _size: int) -> SliceFound:
    """All there are, whatever the seed."""
    target = lab.target()
    try:
        return asyncio.run(_run(lab, target))
    finally:
        lab.done_with(target)


async def _run(lab: Lab, target: AttackedCopy) -> SliceFound:
    api = lab.make_api(target.settings)
    document = ApiDocument(api)
    caps = {(m, r.path_format): max_bytes_of(r.body_field) for r in _routes(api) for m in r.methods}
    cases, longest, starved, failures = 0, 0.0, 0.0, list[str]()
    keys = {True: target.platform_key, False: target.tenants[0].admin_key}
    async with running(api) as clients:
        server.leave_the_start_alone()  # as where the API is served
        platform = await clients.of(keys[True])
        await platform.get("/v1/tenants")  # what is made once, at the first request
        client = await clients.of(keys[False])
        await client.get("/v1/me")
        await client.post("/v1/api-keys", json={"name": "warm"})
        for operation in _with_bodies(document, caps):
            most = caps[operation.method, operation.path]
            assert most is not None
            asked = document.request(operation, target.tenants[0].ids)
            headers = asked.headers | {"Content-Type": "application/json"}
            client = await clients.of(keys[operation.of_platform])
            for one in hostile_bodies.bodies(document.usual_body(operation), most):
                async with watched() as holds:
                    answer = await client.request(
                        operation.method, asked.path, content=one.body, headers=headers
                    )
                cases, longest = cases + 1, max(longest, holds.longest_s)
                starved = max(starved, holds.starved_s)
                wrong = _wrong(answer, holds)
                failures += [] if wrong is None else [f"{operation.name}: {one.name}: {wrong}"]
    return SliceFound(cases, failures, {"longest_hold_s": longest, "starved_s": starved})


def _wrong(answer: httpx.Response, holds: Holds) -> str | None:
    large = not answer.is_success and len(answer.content) > _MOST_ANSWERED
    if answer.status_code >= 500 or large:
        return f"answered {answer.status_code}, {len(answer.content)} bytes"
    if holds.longest_s > MAX_HOLD_S:
        return f"held for {holds.longest_s:.3f} s"
    return f"starved for {holds.starved_s:.3f} s" if holds.starved_s > MAX_STARVED_S else None


def _routes(api: FastAPI) -> list[KeyedRoute]:
    return [route for route in api.routes if isinstance(route, KeyedRoute)]


def _with_bodies(document: ApiDocument, caps: dict[tuple[str, str], int | None]) -> list[DocumentedOperation]:
    found = [one for one in document.operations() if caps[one.method, one.path] is not None]
    return [one for one in found if document.fields(one) is not None]
