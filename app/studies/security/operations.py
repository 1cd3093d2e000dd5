"""What the OpenAPI document says of every operation, and a request that each of them takes."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
from fastapi import FastAPI

from app.auth.principal import Scope
from app.auth.route import KeyedRoute

_TIMES = {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"}
_QUERIES = {"diff_schema_versions": {"from": "1", "to": "1"}}
_FILES = {"put_dataset_content": (b"text,category\n", "text/csv")}


class DocumentedOperation(NamedTuple):
    """scopes: None where it needs no key. of_platform: for admins of the platform alone."""

    method: str
    path: str
    operation_id: str
    scopes: frozenset[Scope] | None
    of_platform: bool
    said: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def path_names(self) -> list[str]:
        return [part[1:-1] for part in self.path.split("/") if part.startswith("{")]

    @property
    def query_names(self) -> list[str]:
        return [one["name"] for one in self.said.get("parameters", []) if one["in"] == "query"]


class AskedRequest(NamedTuple):
    """body: None where the operation takes no JSON."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: dict[str, Any] | None
    content: bytes | None = None

    async def sent(self, client: httpx.AsyncClient, operation: DocumentedOperation) -> httpx.Response:
        beside: dict[str, Any] = {} if self.body is None else {"json": self.body}
        beside |= {} if self.content is None else {"content": self.content}
        return await client.request(
            operation.method, self.path, params=self.query, headers=self.headers, **beside
        )


class ApiDocument:
    def __init__(self, api: FastAPI):
        self.document = api.openapi()
        self._routes = {
            (method, route.path_format): route
            for route in api.routes
            if isinstance(route, KeyedRoute)
            for method in route.methods
        }

    def operations(self) -> Iterator[DocumentedOperation]:
        for path, methods in self.document["paths"].items():
            for method, said in methods.items():
                access = self._routes[method.upper(), path].access
                scopes = None if access is None else access.scopes
                of_platform = access is not None and access.of_platform
                yield DocumentedOperation(
                    method.upper(), path, said["operationId"], scopes, of_platform, said
                )

    def request(
        self,
        operation: DocumentedOperation,
        in_path: Mapping[str, str],
        in_body: Mapping[str, str] | None = None,
        in_query: Mapping[str, str] | None = None,
    ) -> AskedRequest:
        """One that the operation takes, naming these ids. in_body: by default those of the path. in_query: besides
        what has to be there."""
        said = operation.said
        required = [
            one["name"] for one in said.get("parameters", []) if one["in"] == "query" and one["required"]
        ]
        query = {name: (_QUERIES.get(operation.operation_id) or _TIMES)[name] for name in required}
        headers = {"If-Match": "*"}
        if any(one["name"].lower() == "idempotency-key" for one in said.get("parameters", [])):
            headers["Idempotency-Key"] = str(uuid4())
        content, kind = _FILES.get(operation.operation_id, (None, None))
        headers |= {} if kind is None else {"Content-Type": kind}
        path = operation.path.format(**in_path)
        body = self.usual_body(operation, in_path if in_body is None else in_body)
        return AskedRequest(path, query | dict(in_query or {}), headers, body, content)

    def usual_body(
        self, operation: DocumentedOperation, ids: Mapping[str, str] | None = None
    ) -> dict[str, Any] | None:
        """ids: an example of what it must have, a text where there may be one, and these ids wherever it takes them; a
        schema is named once, by its id. None: an example of everything.
        """
        fields = self.fields(operation)
        if fields is None:
            return None
        if ids is None:
            return {name: self._example(said) for name, said in fields.items()}
        required = self._schema_of(operation).get("required", ())
        named = {name for name in fields if name in ids} - ({"schema"} if "schema_id" in fields else set())
        asked = [name for name in fields if name in named or name in required or name == "text"]
        asked = asked or list(fields)[:1]  # of a change, which may be of anything
        return {name: ids[name] if name in named else self._example(fields[name]) for name in asked}

    def fields(self, operation: DocumentedOperation) -> dict[str, Any] | None:
        """Of its body; None where it takes no JSON object that is described."""
        content = operation.said.get("requestBody", {}).get("content", {}).get("application/json")
        if content is None or "$ref" not in content["schema"]:  # none, or a file, which may be JSON
            return None
        found: dict[str, Any] = self._schema_of(operation).get("properties", {})
        return found

    def _schema_of(self, operation: DocumentedOperation) -> dict[str, Any]:
        return self._resolved(operation.said["requestBody"]["content"]["application/json"]["schema"])

    def _resolved(self, said: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in said:
            said = self.document["components"]["schemas"][said["$ref"].rpartition("/")[2]]
        return said

    def _example(self, said: dict[str, Any]) -> Any:
        if said.get("examples"):
            return next((one for one in said["examples"] if one is not None), None)
        said = self._resolved(said)
        if said.get("examples"):
            return next((one for one in said["examples"] if one is not None), None)
        if "properties" in said:
            return {name: self._example(inner) for name, inner in said["properties"].items()}
        return None
