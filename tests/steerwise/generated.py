"""`python -m tests.steerwise.generated`: writes steerwise/models.py from the API's OpenAPI document.

What the client sends and gets has its home there; a test fails where the file and the document disagree.
"""

import keyword
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.main import create_app
from app.settings import Settings
from steerwise.operations import ALL, Operation

TARGET = Path(__file__).parents[2] / "steerwise" / "models.py"
_HEAD = '''"""What the API gives, and what it takes: written from its OpenAPI document by tests/steerwise/generated.py.

A name that Python reserves has an underscore behind it. Fields that a newer API has besides are kept as extras, and
what an older one lacks is None where that is a value of it.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, NotRequired, Required, TypedDict

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())
'''
_PLAIN = {"integer": "int", "number": "float", "boolean": "bool", "null": "None"}
_FORMATS = {"date-time": "datetime", "date": "date"}  # ids are texts: they come from here and go back there


def document() -> dict[str, Any]:
    return create_app(Settings()).openapi()


def source(document: dict[str, Any]) -> str:
    """As ruff formats it."""
    return _formatted(_Writer(document).text())


def described(operation: Operation, document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["paths"][operation.path][operation.method.lower()]
    return found


def component(schema: dict[str, Any]) -> str | None:
    """The name of the type that a schema refers to, a page's item included."""
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    return re.sub(r"^Page_(\w+)_$", r"\1", name) or None


def of_client(name: str) -> str:
    return name.removesuffix("Out")


class _Writer:
    def __init__(self, document: dict[str, Any]):
        self._document, self._schemas = document, document["components"]["schemas"]
        self._given: dict[str, str] = {}
        self._taken: dict[str, str] = {}

    def text(self) -> str:
        for operation in ALL:
            told = described(operation, self._document)
            for status, answer in told["responses"].items():
                if int(status) < 300:
                    self._give(_json_of(answer))
            self._take(_json_of(told.get("requestBody", {})))
            self._query(operation, told)
        given = [self._given[name] for name in sorted(self._given)]
        return "\n\n".join([_HEAD, *given, *(self._taken[name] for name in sorted(self._taken))])

    def _give(self, schema: dict[str, Any]) -> None:
        name = component(schema)
        if name is None or name in self._given or not self._schemas[name].get("properties"):
            return
        self._given[name] = ""  # one that refers to itself ends here
        lines = [f"class {of_client(name)}(Model):"]
        for field, told in self._schemas[name]["properties"].items():
            for part in _references(told):
                self._give(part)
            kind = self._type(told, of_client)
            lines.append(f"    {_usable(field)}: {kind}{' = None' if kind.endswith('| None') else ''}")
        self._given[name] = "\n".join(lines) + "\n"

    def _take(self, schema: dict[str, Any]) -> None:
        name = component(schema)
        if name is None or name in self._taken or not self._schemas[name].get("properties"):
            return
        self._taken[name] = ""
        required = self._schemas[name].get("required", ())
        lines = [f"class {name}(TypedDict, total=False):"]
        for field, told in self._schemas[name]["properties"].items():
            for part in _references(told):
                self._take(part)
            must = "Required" if field in required else "NotRequired"
            lines.append(f"    {_usable(field)}: {must}[{self._type(told, str)}]")
        self._taken[name] = "\n".join(lines) + "\n"

    def _query(self, operation: Operation, told: dict[str, Any]) -> None:
        asked = [
            p
            for p in told.get("parameters", ())
            if p["in"] == "query" and p["name"] not in ("cursor", "limit")
        ]
        if asked:
            lines = [f"class {operation.query}(TypedDict, total=False):"]
            lines += [f"    {_usable(p['name'])}: {self._type(p['schema'], str)}" for p in asked]
            self._taken[operation.query] = "\n".join(lines) + "\n"

    def _type(self, schema: dict[str, Any], named: Any) -> str:
        if "$ref" in schema:
            name = component(schema)
            assert name is not None
            found = self._schemas[name]
            return "str" if "enum" in found else named(name) if found.get("properties") else _of_free(found)
        if "const" in schema or "enum" in schema:
            return "str"
        for several in ("anyOf", "oneOf", "allOf"):
            if several in schema:
                kinds = dict.fromkeys(self._type(one, named) for one in schema[several])
                return "Any" if "Any" in kinds else " | ".join(kinds)
        match schema.get("type"):
            case "array":
                return f"list[{self._type(schema.get('items', {}), named)}]"
            case "object":
                values = schema.get("additionalProperties")
                return f"dict[str, {self._type(values, named) if isinstance(values, dict) else 'Any'}]"
            case "string":
                return _FORMATS.get(schema.get("format", ""), "str") if named is of_client else "str"
            case str(plain):
                return _PLAIN[plain]
            case _:
                return "Any"


def _of_free(schema: dict[str, Any]) -> str:
    return "dict[str, Any]" if schema.get("type") == "object" else "Any"


def _json_of(described: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = described.get("content", {}).get("application/json", {}).get("schema", {})
    return found


def _references(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if "$ref" in schema:
            yield schema
        for part in schema.values():
            yield from _references(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _references(part)


def _usable(name: str) -> str:
    return f"{name}_" if keyword.iskeyword(name) else name


def _formatted(text: str) -> str:
    ruff = str(Path(sys.executable).parent / "ruff")
    config = str(TARGET.parents[1] / "pyproject.toml")
    command = [ruff, "format", "--config", config, "--stdin-filename", str(TARGET), "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    TARGET.write_text(source(document()), encoding="utf-8")
