"""The clients are what the API's OpenAPI document says, and both are the same."""

import inspect
import re
from typing import Any, get_type_hints

import pytest

from app.infra.tables.datasets import DatasetState
from app.infra.tables.deployments import DeploymentState
from app.infra.tables.gates import GateState
from app.infra.tables.runs import RunState
from steerwise import calls, operations
from steerwise.async_client import AsyncClient
from steerwise.client import Client
from tests.steerwise import generated
from tests.steerwise.generated import TARGET, described


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return generated.document()


def test_the_types_are_those_of_the_document(document: dict[str, Any]) -> None:
    assert TARGET.read_text(encoding="utf-8") == generated.source(document), (
        "the API has changed: run `python -m tests.steerwise.generated`, and see what the clients have to do about it"
    )


def test_a_change_of_the_document_is_seen(document: dict[str, Any]) -> None:
    answer = dict(document["components"]["schemas"]["AnswerOut"])
    answer["properties"] = answer["properties"] | {"label_mass": {"type": "string"}}
    schemas = document["components"]["schemas"] | {"AnswerOut": answer}
    changed = document | {"components": document["components"] | {"schemas": schemas}}
    assert generated.source(changed) != TARGET.read_text(encoding="utf-8")


def test_every_operation_is_there_and_takes_a_key_where_the_clients_send_one(
    document: dict[str, Any],
) -> None:
    for operation in operations.ALL:
        parameters = described(operation, document).get("parameters", ())
        named = {one["name"] for one in parameters}
        assert ("Idempotency-Key" in named) == operation.once, operation.path
        assert set(re.findall(r"{(\w+)}", operation.path)) == {
            one["name"] for one in parameters if one["in"] == "path"
        }
        asked = {one["name"] for one in parameters if one["in"] == "query"} - {"cursor", "limit"}
        assert bool(asked) == bool(operation.query), operation.path


def test_every_operation_is_called_by_a_method() -> None:
    source = inspect.getsource(Client)
    unused = [
        name
        for name, value in vars(operations).items()
        if isinstance(value, operations.Operation)
        and f"op.{name}," not in source
        and f"op.{name})" not in source
    ]
    assert unused == []


def test_both_clients_have_the_same_methods_with_the_same_parameters() -> None:
    assert public(Client) == public(AsyncClient)


def public(kind: type) -> dict[str, Any]:
    found = {
        name: value for name, value in vars(kind).items() if inspect.isfunction(value) and name[0] != "_"
    }
    return {
        name: {k: v for k, v in get_type_hints(value).items() if k != "return"}
        for name, value in found.items()
    }


def test_states_that_are_waited_out_are_states() -> None:
    for goes_on, states in (
        (calls.DATASET_GOES_ON, DatasetState),
        (calls.RUN_GOES_ON, RunState),
        (calls.GATE_GOES_ON, GateState),
        (calls.DEPLOYMENT_GOES_ON, DeploymentState),
    ):
        assert goes_on < set(map(str, states))
