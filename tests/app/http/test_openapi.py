"""The document tells everything that a client may meet. It is checked for every endpoint there is, by walking it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from app.decisions import error_shapes
from app.http.problems import PROBLEM, SCHEMA_REF
from app.main import create_app
from app.settings import Settings

METHODS = {"get", "head", "put", "post", "patch", "delete"}


class Operation(NamedTuple):
    name: str
    method: str
    path: str
    body: dict[str, Any]


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home: Path = tmp_path_factory.mktemp("home")
    return create_app(Settings(home=home)).openapi()


def operations(document: dict[str, Any]) -> Iterator[Operation]:
    for path, methods in document["paths"].items():
        for method, body in methods.items():
            assert method in METHODS
            yield Operation(f"{method.upper()} {path}", method, path, body)


def test_there_are_endpoints_and_each_has_a_readable_name_of_its_own(document: dict[str, Any]) -> None:
    names = [operation.body["operationId"] for operation in operations(document)]
    assert len(names) > 15
    assert len(set(names)) == len(names)
    assert [name for name in names if not re.fullmatch(r"[a-z]+(_[a-z]+)+", name)] == []


def test_every_endpoint_says_what_it_does_and_belongs_somewhere(document: dict[str, Any]) -> None:
    silent = [o.name for o in operations(document) if not o.body.get("description") or not o.body.get("tags")]
    assert silent == []


def test_every_error_is_declared_in_the_shape_of_its_wire_with_an_example(document: dict[str, Any]) -> None:
    for operation in operations(document):
        shape = error_shapes.SHAPES.get(operation.path, PROBLEM)
        errors = {s: r for s, r in operation.body["responses"].items() if int(s) >= 400}
        assert "500" in errors, operation.name
        for status, response in errors.items():
            content = response["content"]
            assert set(content) == {shape.media_type}, (operation.name, status)
            assert content[shape.media_type]["schema"] == shape.schema
            for code, example in content[shape.media_type]["examples"].items():
                value = example["value"].get("error", example["value"])
                assert value["code"] == code
                assert shape is not PROBLEM or str(value["status"]) == status


def test_endpoints_behind_a_key_declare_it_and_its_refusals(document: dict[str, Any]) -> None:
    open_to_all = {"get_liveness", "get_readiness"}
    for operation in operations(document):
        if operation.body["operationId"] not in open_to_all:
            [security] = operation.body["security"]
            assert set(security) == {"ApiKey"}, operation.name
            unusable = str(error_shapes.SHAPES.get(operation.path, PROBLEM).status(422))
            assert {"401", "403", "408", "413", unusable, "503"} <= operation.body["responses"].keys(), (
                operation.name
            )
        if "{" in operation.path:
            assert "404" in operation.body["responses"], operation.name


def test_every_parameter_is_described_with_an_example(document: dict[str, Any]) -> None:
    bare = [
        f"{operation.name}: {parameter['name']}"
        for operation in operations(document)
        for parameter in operation.body.get("parameters", [])
        if not parameter.get("description") or not _has_example(parameter)
    ]
    assert bare == []


def test_every_field_is_described_with_an_example(document: dict[str, Any]) -> None:
    bare = [
        f"{name}.{field}"
        for name, schema in document["components"]["schemas"].items()
        for field, described in schema.get("properties", {}).items()
        if not described.get("description") or not (_has_example(described) or _refers(described))
    ]
    assert bare == []


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    found = set(re.findall(r"'#/components/schemas/([^']+)'", str(document)))
    assert found <= document["components"]["schemas"].keys()


def _has_example(described: dict[str, Any]) -> bool:
    return "examples" in described or "example" in described or "examples" in described.get("schema", {})


def _refers(described: dict[str, Any]) -> bool:
    """To a type of ours, whose own fields have theirs."""
    return SCHEMA_REF.rpartition("/")[0] in str(described)
