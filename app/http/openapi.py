"""The OpenAPI document: what FastAPI writes, and what it cannot know."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from app.auth.dependencies import bearer
from app.auth.route import KeyedRoute
from app.http.problems import ProblemDocument

DESCRIPTION = """
Classifiers of support conversations that are trained per tenant and follow an edited definition.

Errors are problem documents (RFC 9457) with a stable `code`. Times are ISO 8601 in UTC, ids are UUIDs. Lists come in
pages, newest first. What belongs to another tenant is answered as if it did not exist.
"""


def install(app: FastAPI, *error_bodies: type[BaseModel]) -> None:
    """error_bodies: of endpoints that give their errors in another shape than a problem document."""
    written = app.openapi

    def with_problems() -> dict[str, Any]:
        document = written()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        _take_out_fastapis_own(document, schemas)
        if "Problem" not in schemas:
            bodies: tuple[type[BaseModel], ...] = (ProblemDocument, *error_bodies)
            for body in bodies:
                described = body.model_json_schema(ref_template="#/components/schemas/{model}")
                schemas.update(described.pop("$defs", {}))
                schemas[described["title"]] = described
            for route in app.routes:
                if isinstance(route, KeyedRoute) and route.access is not None:
                    _declare(document["paths"][route.path_format], route)
        return document

    app.openapi = with_problems  # type: ignore[method-assign]  # FastAPI's own way to extend the document


def _take_out_fastapis_own(document: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Which it adds where an endpoint declares no 422, and no request is answered with."""
    for methods in document["paths"].values():
        for operation in methods.values():
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)


def _declare(path: dict[str, Any], route: KeyedRoute) -> None:
    """The scopes that it needs, which OpenAPI 3.1 lets any kind of security name."""
    assert route.access is not None
    scopes = sorted(scope.value for scope in route.access.scopes)
    for method in route.methods:
        path[method.lower()]["security"] = [{bearer.scheme_name: scopes}]
