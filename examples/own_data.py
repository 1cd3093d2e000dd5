"""From two files to a deployed classifier: `python examples/own_data.py shop schema.json conversations.jsonl`.

Needs a key of a tenant, with the scope `admin`. Nothing is deployed unless the gate has passed.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import httpx


class Api:
    def __init__(self) -> None:
        url = os.environ.get("STEERWISE_URL", "http://127.0.0.1:8000")
        headers = {"Authorization": f"Bearer {os.environ['STEERWISE_API_KEY']}"}
        self._http = httpx.Client(base_url=f"{url}/v1", headers=headers, timeout=120)

    def call(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        response = self._http.request(method, path, **more)
        if response.is_error:
            raise SystemExit(f"{method} {path}: {response.text}")
        body: dict[str, Any] = response.json()
        return body

    def until(self, path: str, *wanted: str) -> dict[str, Any]:
        while (found := self.call("GET", path))["state"] not in wanted:
            time.sleep(2)
        return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("schema", type=Path)
    parser.add_argument("conversations", type=Path)
    given = parser.parse_args()
    api = Api()
    draft = json.loads(given.schema.read_bytes())
    draft.pop("name", None)
    schema = api.call("POST", "/schemas", json={"name": given.name, "draft": draft})["id"]
    api.call("POST", f"/schemas/{schema}/publish", headers={"If-Match": "*"})
    dataset = api.call("POST", "/datasets", json={"name": given.name, "schema_id": schema})["id"]
    content = given.conversations.read_bytes()
    media = "text/csv" if given.conversations.suffix == ".csv" else "application/jsonl"
    api.call("PUT", f"/datasets/{dataset}/content", content=content, headers={"Content-Type": media})
    if api.until(f"/datasets/{dataset}", "ready", "failed")["state"] != "ready":
        raise SystemExit(f"the file could not be used: GET /v1/datasets/{dataset} says why")
    run = api.call("POST", "/runs", json={"schema_id": schema, "dataset_id": dataset})["id"]
    made = api.until(f"/runs/{run}", "succeeded", "failed", "cancelled")
    if made["state"] != "succeeded":
        raise SystemExit(f"the run {made['state']}: {made['error']}")
    gate = api.call("POST", "/gates", json={"model_version_id": made["model_version_id"]})["id"]
    judged = api.until(f"/gates/{gate}", "done", "failed")
    print(f"gate: {judged['verdict']}", *judged["reasons"], sep="\n  - ")
    if judged["verdict"] != "passed":
        return 3
    deployment = api.call("POST", "/deployments", json={"gate_id": gate})["id"]
    print(api.until(f"/deployments/{deployment}", "live", "failed")["state"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
