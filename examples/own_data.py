"""From two files to a deployed classifier: `python examples/own_data.py shop schema.json conversations.jsonl`.

Needs a key of a tenant, with the scope `admin`. Nothing is deployed unless the gate has passed (else exit code 3).
"""

import argparse
import json
import sys
from pathlib import Path

from steerwise.client import Client
from steerwise.errors import SteerwiseError


class Stopped(Exception):
    """What was asked for has ended otherwise than hoped."""


def deployed(client: Client, name: str, schema_file: Path, conversations: Path) -> bool:
    """Whether the gate has passed. Raises: SteerwiseError, Stopped."""
    draft = json.loads(schema_file.read_bytes())
    draft.pop("name", None)
    schema = client.create_schema(name=name, draft=draft)
    client.publish_schema(schema.id)
    dataset = client.create_dataset(name=name, schema_id=schema.id)
    client.upload(dataset.id, conversations)
    dataset = client.wait_for_dataset(dataset.id)
    if dataset.state != "ready":
        raise Stopped(f"the file cannot be used: {dataset.problem and dataset.problem.message}")
    run = client.wait_for_run(client.create_run(schema_id=schema.id, dataset_id=dataset.id).id)
    if run.model_version_id is None:
        raise Stopped(f"the run has {run.state}: {run.error and run.error.message}")
    gate = client.wait_for_gate(client.create_gate(model_version_id=run.model_version_id).id)
    print(f"gate: {gate.verdict or gate.state}", *gate.reasons, sep="\n  - ")
    if gate.verdict != "passed":
        return False
    deployment = client.wait_for_deployment(client.create_deployment(gate_id=gate.id).id)
    print(f"deployment: {deployment.problem or deployment.state}")
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="of the schema and the data set to make")
    parser.add_argument("schema", type=Path)
    parser.add_argument("conversations", type=Path, help="in any form that docs/formats.md names")
    given = parser.parse_args()
    try:
        with Client() as client:
            return 0 if deployed(client, given.name, given.schema, given.conversations) else 3
    except (SteerwiseError, Stopped, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
