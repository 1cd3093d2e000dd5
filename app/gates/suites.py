"""The suite of a schema version and a held-out split: built for the first gate that asks it, then the same for all."""

import hashlib
import json
from pathlib import Path

from app.errors import InputError
from app.gates import evaluation
from app.infra.files.door import FileDoor
from app.infra.files.repository import MadeFrom, NewFile
from app.infra.tables.files import FileKind
from app.runs.inputs import Inputs
from app.runs.presets import Benchmark
from evaluation.contract.record import Split
from evaluation.suites import steerability, suite_file
from evaluation.suites.families import SuiteError
from evaluation.suites.steerability import Suite


def stored(files: FileDoor, made_from: MadeFrom, inputs: Inputs, settings: Benchmark, local: Path) -> Suite:
    """made_from: its dataset, which is that of every gate which asks it. local: where the file may lie.

    Raises: InputError.
    """
    storage = files.storage
    folder = f"tenants/{files.scope.tenant_id}/datasets/{made_from.dataset_id}/suites"
    key = f"{folder}/{_identity(inputs, settings)}.json"
    held_out = inputs.splits[Split.test]
    if storage.exists(key):
        storage.get_file(key, local)
        try:
            return suite_file.read(local, inputs.schema, held_out)
        except SuiteError as error:
            raise InputError(f"what is kept in the storage as {key} cannot be used: {error}") from None
    suite = evaluation.suite_of(inputs, settings)
    suite_file.write(suite, local)
    files.put_from_thread(local, NewFile(key, FileKind.suite, made_from))
    return suite


def _identity(inputs: Inputs, settings: Benchmark) -> str:
    """Of all that a suite is built of."""
    held_out = [c.model_dump(mode="json", exclude={"split"}) for c in inputs.splits[Split.test]]
    made_of = [steerability.VERSION, inputs.schema.sha256, settings.model_dump(mode="json"), held_out]
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
