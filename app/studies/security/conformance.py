"""Requests that Schemathesis makes up from the OpenAPI document, in all its phases, as an admin of the platform who
names a tenant: nothing is answered with a 5xx, and nothing with what the document does not declare."""

from collections.abc import Callable
from typing import Any

import httpx
from fastapi import FastAPI

from app.errors import InputError
from app.studies.security.lab import AttackedCopy, Lab, served
from app.studies.security.results import SliceFound

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
)
_WHO = ("x-tenant", "authorization")  # headers that say who asks
_REQUEST_TIMEOUT_S = 60
_KNOWN_IDS = 0.7  # of the ids in paths and bodies are those of what is there
# Whoever revokes the key of this very bench ends it; and the events of a run that nobody works on never end.
_NAMED = {"/v1/api-keys/{key_id}/revoke": "key_id", "/v1/runs/{run_id}/events": "run_id"}
_SHOWN_CHARS = 600
_STREAMS = ("stream_run_events", "classify_stream")
_SHORT = 1  # example, without the phase that enumerates


def run(lab: Lab, seed: int, size: int) -> SliceFound:
    """size: examples for each operation, and histories of the stateful phase."""
    target = lab.target()
    try:
        api = lab.make_api(target.settings)
        with served(api, target.settings) as url:
            return _asked(api, url, target, seed, size)
    finally:
        lab.done_with(target)


def _asked(api: FastAPI, url: str, target: AttackedCopy, seed: int, size: int) -> SliceFound:
    try:
        import schemathesis
        from schemathesis import hooks
        from schemathesis.config import SchemathesisConfig
        from schemathesis.engine import events, from_schema
    except ImportError:
        raise InputError(
            "Schemathesis is not installed; it belongs to the extra `dev`: pip install 'steerwise[dev]'"
        ) from None
    config = SchemathesisConfig.from_dict(_config(url, target, seed, size))
    schema = schemathesis.openapi.from_dict(api.openapi(), config=config)
    cases, failures, phases = 0, list[str](), set[str]()
    hook = _says_who_asks(target)
    schemathesis.hook(hook)  # of the process: Schemathesis has no narrower one
    try:
        for event in from_schema(schema).execute():
            if isinstance(event, events.ScenarioFinished):
                cases += len(event.recorder.cases)
                phases |= {event.phase.value} if event.recorder.cases else set()
                failures += _failures(event.recorder)
            elif isinstance(event, events.NonFatalError | events.FatalError):
                failures.append(f"Schemathesis itself: {str(event)[:_SHOWN_CHARS]}")
    finally:
        hooks.unregister(hook)
    wanted = {"examples", "fuzzing", "stateful", *(["coverage"] if size > _SHORT else [])}
    if missing := wanted - phases:
        failures.append(f"no case of the phases {', '.join(sorted(missing))}")
    mine = {"Authorization": f"Bearer {target.platform_key}"}
    if httpx.get(f"{url}/v1/me", headers=mine, trust_env=False).status_code != 200:
        failures.append("the key that asked has ended meanwhile, so that not everything was asked")
    return SliceFound(cases, failures)


def _config(url: str, target: AttackedCopy, seed: int, size: int) -> dict[str, Any]:
    """Names and meanings: Schemathesis' own configuration file."""
    ids = target.tenants[0].ids
    named = {name: identity for name, identity in ids.items() if len(identity) == len(ids["tenant_id"])}
    bound = {
        f"{where}.{name}": {"dictionary": name, "probability": _KNOWN_IDS}
        for name in named
        for where in ("path", "query", "body")
    }
    return {
        "seed": seed,
        "base-url": url,
        "request-timeout": _REQUEST_TIMEOUT_S,
        "continue-on-failure": True,
        "dictionaries": {name: {"values": [identity]} for name, identity in named.items()},
        "parameters": bound,
        "checks": {"enabled": False} | {name: {"enabled": True} for name in CHECKS},
        # A stream is text as a whole, as the document says; Schemathesis holds each of its events against that.
        "operations": [
            {"include-operation-id": one, "checks": {"response_schema_conformance": {"enabled": False}}}
            for one in _STREAMS
        ],
        "generation": {
            "max-examples": size,
            "no-shrink": True,
            "database": "none",
            "with-security-parameters": False,
        },
        # All that coverage enumerates takes long, however few examples are asked for.
        "phases": {"enabled": True, "coverage": {"enabled": size > _SHORT}},
    }


def _says_who_asks(target: AttackedCopy) -> Callable[[Any, Any, dict[str, Any]], None]:
    """Whatever was made up for it."""
    ids = target.tenants[0].ids
    ours = {"Authorization": f"Bearer {target.platform_key}", "X-Tenant": ids["tenant_id"]}

    def before_call(_context: Any, case: Any, _kwargs: dict[str, Any]) -> None:
        given = case.headers or {}
        case.headers = {name: given[name] for name in given if name.lower() not in _WHO} | ours
        name = _NAMED.get(case.path)
        if name is not None and case.path_parameters:
            case.path_parameters = {**case.path_parameters, name: ids[name]}

    return before_call


def _failures(recorder: Any) -> list[str]:
    """One for each case that failed; what two checks say of it is one failure."""
    found = []
    for case_id, checks in recorder.checks.items():
        wrong = [check for check in checks if check.failure_info is not None]
        if wrong:
            case = recorder.cases[case_id].value
            told = "; ".join(f"{one.name}: {one.failure_info.failure.message}" for one in wrong)
            found.append(f"{case.operation.label}: {told}"[:_SHOWN_CHARS])
    return found
