"""What people do with the API in any order, beside a model of what must then be true: a Hypothesis state machine over
tenants, schemas, uploads, runs and keys. What one tenant does is seen by it, and by no other; a key that has ended
opens nothing; and nothing is answered with a 5xx.
"""

import asyncio
import hashlib
import json
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from uuid import UUID

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from app.auth.principal import Scope
from app.infra.tables.datasets import DatasetState
from app.jobs import runner
from app.settings import Settings
from app.studies.security.lab import Clients, Lab, good, running
from app.studies.security.results import SliceFound

STEPS = 50  # of one history
_TENANTS = 2
_REMEMBERED = 8  # steps that a failure tells of
_KEY_OPENS = {  # by scope, what a key with it alone may read
    Scope.schemas_read: "/v1/schemas",
    Scope.datasets_read: "/v1/datasets",
    Scope.runs_read: "/v1/runs",
    Scope.tenant_read: "/v1/usage?from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z",
}
_FILE_ROWS = (0, 3, 48)  # none, too few for a run, enough for one


class MadeSchema(NamedTuple):
    tenant: int
    identity: str


class HistoryKey:
    """As it must behave. parent: the key that made it."""

    def __init__(self, tenant: int, text: str, identity: str, scope: Scope, parent: "HistoryKey | None"):
        self.tenant, self.text, self.identity, self.scope, self.parent = tenant, text, identity, scope, parent
        self.revoked = False

    @property
    def ended(self) -> bool:
        return self.revoked or (self.parent is not None and self.parent.ended)


class HistoryDataset:
    """As it must look. names: ids of its conversations, as their sender calls them. used: by a run."""

    def __init__(self, tenant: int, identity: str, schema: MadeSchema):
        self.tenant, self.identity, self.schema = tenant, identity, schema
        self.names: set[str] = set()
        self.busy = self.has_content = self.used = False
        self.waiting: set[str] = set()  # of the file that nobody has read yet


class World(NamedTuple):
    """Of all histories of a slice; each makes tenants of its own."""

    portal: BlockingPortal
    clients: Clients
    settings: Settings
    platform_key: str


def run(lab: Lab, slice_seed: int, size: int) -> SliceFound:
    """size: histories of STEPS steps each."""
    with _world(lab) as world:

        class BoundHistory(ApiHistory):
            steps = 0

        BoundHistory.world = world
        machine: type[ApiHistory] = seed(slice_seed)(BoundHistory)
        asked = settings(
            max_examples=size,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            verbosity=Verbosity.quiet,
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        )
        failures = []
        try:
            run_state_machine_as_test(machine, settings=asked)
        except Exception as error:  # noqa: BLE001 (whatever a history ends with is what was looked for)
            failures.append(f"{type(error).__name__}: {error}")
        return SliceFound(machine.steps, failures)


@contextmanager
def _world(lab: Lab) -> Iterator[World]:
    target = lab.target(tenant_open_files=10_000, tenant_open_runs=10_000)
    api = lab.make_api(target.settings)
    try:
        with start_blocking_portal() as portal, portal.wrap_async_context_manager(running(api)) as clients:
            yield World(portal, clients, target.settings, target.platform_key)
    finally:
        lab.done_with(target)


class ApiHistory(RuleBasedStateMachine):
    world: World
    steps: int  # of all histories of this class

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0
        self.tenants: list[str] = []  # ids
        self.words: list[str] = []  # of each tenant: it stands in all that it has
        self.admins: list[str] = []
        self.schemas: list[MadeSchema] = []
        self.published: set[MadeSchema] = set()
        self.datasets: list[HistoryDataset] = []
        self.runs: dict[str, tuple[int, bool]] = {}  # whose, and whether it has ended
        self.keys: list[HistoryKey] = []
        self.told: deque[str] = deque(maxlen=_REMEMBERED)

    # ------------------------------------------------------------------------------------------------ asking

    def ask(self, key: str, method: str, path: str, **more: Any) -> httpx.Response:
        async def sent() -> httpx.Response:
            return await (await self.world.clients.of(key)).request(method, path, **more)

        answer = self.world.portal.call(sent)
        self.told.append(f"{method} {path.partition('?')[0]} → {answer.status_code}")
        if answer.status_code >= 500:
            self.wrong(f"was answered {answer.status_code}")
        return answer

    def as_tenant(self, tenant: int, method: str, path: str, **more: Any) -> httpx.Response:
        answer = self.ask(self.admins[tenant], method, path, **more)
        shown = [other for other in range(_TENANTS) if other != tenant and self.words[other] in answer.text]
        if shown:
            self.wrong("shows a word of another tenant")
        return answer

    def wrong(self, what: str) -> None:
        raise AssertionError(f"{what}, after: {'; '.join(self.told)}")

    def check(self, holds: bool, what: str) -> None:
        if not holds:
            self.wrong(what)

    def step(self) -> int:
        """A number that nothing else of this history has."""
        type(self).steps += 1
        self.numbers += 1
        return self.numbers

    def chosen(self, data: st.DataObject, those: list[Any]) -> Any:
        return data.draw(st.sampled_from(those))

    # ------------------------------------------------------------------------------------------------- rules

    @initialize()
    def tenants_are_made(self) -> None:
        for number in range(_TENANTS):
            self.step()
            word = f"zh{id(self):x}{type(self).steps}n{number}"
            made = good(self.ask(self.world.platform_key, "POST", "/v1/tenants", json={"name": word}))
            key = good(
                self.ask(
                    self.world.platform_key,
                    "POST",
                    "/v1/api-keys",
                    json={"name": "admin", "scopes": [Scope.admin]},
                    headers={"X-Tenant": made["id"]},
                )
            )
            self.tenants.append(made["id"])
            self.words.append(word)
            self.admins.append(key["key"])

    @rule(tenant=st.integers(0, _TENANTS - 1), complete=st.booleans())
    def a_schema_is_made(self, tenant: int, complete: bool) -> None:
        number = self.step()
        draft = self.draft(tenant) if complete else {"categories": [{"key": self.words[tenant]}]}
        body = {"name": f"schema {number}", "draft": draft}
        made = self.as_tenant(tenant, "POST", "/v1/schemas", json=body)
        self.check(made.status_code == 201, "a schema was not made")
        self.schemas.append(MadeSchema(tenant, made.json()["id"]))

    @precondition(lambda self: self.schemas)
    @rule(data=st.data(), complete=st.booleans())
    def a_schema_is_published(self, data: st.DataObject, complete: bool) -> None:
        self.step()
        schema = self.chosen(data, self.schemas)
        draft = self.draft(schema.tenant) if complete else {"categories": []}
        path = f"/v1/schemas/{schema.identity}"
        put = self.as_tenant(schema.tenant, "PUT", f"{path}/draft", json=draft, headers={"If-Match": "*"})
        self.check(put.status_code == 200, "a draft was not stored")
        published = self.as_tenant(schema.tenant, "POST", f"{path}/publish")
        self.check((published.status_code in (200, 201)) == complete, "publishing does not follow the draft")
        self.published |= {schema} if complete else set()

    @precondition(lambda self: self.schemas)
    @rule(data=st.data())
    def a_dataset_is_made(self, data: st.DataObject) -> None:
        number = self.step()
        schema = self.chosen(data, self.schemas)
        body = {"name": f"dataset {number} {self.words[schema.tenant]}", "schema_id": schema.identity}
        made = self.as_tenant(schema.tenant, "POST", "/v1/datasets", json=body)
        self.check(made.status_code == 201, "a dataset was not made")
        self.datasets.append(HistoryDataset(schema.tenant, made.json()["id"], schema))

    @precondition(lambda self: self.datasets)
    @rule(data=st.data())
    def a_conversation_is_appended(self, data: st.DataObject) -> None:
        name = f"c{self.step()}"
        dataset = self.chosen(data, self.datasets)
        path = f"/v1/datasets/{dataset.identity}/conversations"
        answer = self.as_tenant(dataset.tenant, "POST", path, json=self.conversation(dataset.tenant, name))
        self.check(
            (answer.status_code == 409) == dataset.busy, "appending does not follow the dataset's state"
        )
        if not dataset.busy:
            self.check(answer.status_code == 201, "a conversation was not appended")
            dataset.names.add(name)
            dataset.has_content = True

    @precondition(lambda self: self.datasets)
    @rule(data=st.data(), rows=st.sampled_from(_FILE_ROWS), torn=st.booleans())
    def a_file_is_uploaded(self, data: st.DataObject, rows: int, torn: bool) -> None:
        number = self.step()
        dataset = self.chosen(data, self.datasets)
        names = [f"f{number}-{row}" for row in range(rows)]
        found = [self.conversation(dataset.tenant, name) | _labelled(row) for row, name in enumerate(names)]
        lines = [json.dumps(one) for one in found]
        content = "\n".join([*lines, "{"] if torn else lines).encode()
        path = f"/v1/datasets/{dataset.identity}/content"
        headers = {"Content-Type": "application/jsonl"}
        answer = self.as_tenant(dataset.tenant, "PUT", path, content=content, headers=headers)
        if answer.status_code == 202 and answer.json()["complete"]:
            self.check(not (dataset.busy or dataset.has_content), "a second file was taken")
            dataset.busy, dataset.waiting = True, set(names)
        else:
            refused = dataset.busy or dataset.has_content or not content
            self.check(refused and answer.status_code in (409, 422, 202), "a file was refused")

    @precondition(lambda self: any(dataset.busy for dataset in self.datasets))
    @rule(data=st.data())
    def a_file_is_read(self, data: st.DataObject) -> None:
        self.step()
        dataset = self.chosen(data, [one for one in self.datasets if one.busy])
        path = f"/v1/datasets/{dataset.identity}"
        job = good(self.as_tenant(dataset.tenant, "GET", path))["validation"]["job_id"]
        self.world.portal.call(_worked_off, UUID(job), self.world.settings)
        shown = good(self.as_tenant(dataset.tenant, "GET", path))
        dataset.busy = False
        expected = DatasetState.ready if dataset.waiting else DatasetState.failed
        self.check(shown["state"] == expected, f"a file of {len(dataset.waiting)} rows is {shown['state']}")
        dataset.names, dataset.has_content = set(dataset.waiting), bool(dataset.waiting)
        dataset.waiting = set()

    @precondition(lambda self: self.datasets)
    @rule(data=st.data())
    def a_dataset_is_removed(self, data: st.DataObject) -> None:
        self.step()
        dataset = self.chosen(data, self.datasets)
        path = f"/v1/datasets/{dataset.identity}"
        answer = self.as_tenant(dataset.tenant, "DELETE", path)
        if answer.status_code == 409:
            self.check(dataset.busy or dataset.used, "a dataset was not removed")
            return
        self.check(answer.status_code == 204, "a dataset was not removed")
        self.check(not dataset.busy, "a dataset was removed while its file is read")
        self.datasets.remove(dataset)
        gone = self.as_tenant(dataset.tenant, "GET", path)
        self.check(gone.status_code == 404, "a dataset that was removed is there")

    @precondition(lambda self: self.datasets)
    @rule(data=st.data())
    def a_run_is_asked_for(self, data: st.DataObject) -> None:
        self.step()
        dataset = self.chosen(data, self.datasets)
        body = {"schema_id": dataset.schema.identity, "dataset_id": dataset.identity, "preset": "smoke"}
        answer = self.as_tenant(dataset.tenant, "POST", "/v1/runs", json=body)
        self.check(answer.status_code in (202, 409, 422), f"a run was answered {answer.status_code}")
        if answer.status_code == 202:
            self.check(dataset.schema in self.published, "a run began without a published schema")
            self.check(not dataset.busy, "a run began while the file is read")
            self.runs[answer.json()["id"]] = dataset.tenant, False
            dataset.used = True

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def a_run_is_cancelled(self, data: st.DataObject) -> None:
        self.step()
        run_id = self.chosen(data, sorted(self.runs))
        tenant, _ = self.runs[run_id]
        answer = self.as_tenant(tenant, "POST", f"/v1/runs/{run_id}/cancel")
        self.check(answer.status_code == 202, "a run could not be cancelled")
        self.runs[run_id] = tenant, True

    @rule(data=st.data(), scope=st.sampled_from(sorted(_KEY_OPENS)))
    def a_key_is_made(self, data: st.DataObject, scope: Scope) -> None:
        number = self.step()
        parents = [one for one in self.keys if one.scope is Scope.admin and not one.ended]
        parent = data.draw(st.sampled_from([None, *parents]))
        tenant = data.draw(st.integers(0, _TENANTS - 1)) if parent is None else parent.tenant
        by = self.admins[tenant] if parent is None else parent.text
        scope = Scope.admin if parent is None and number % 2 else scope
        body = {"name": f"key {number}", "scopes": [scope]}
        answer = self.ask(by, "POST", "/v1/api-keys", json=body)
        if answer.status_code == 409:
            return  # a line of keys that made one another has its end
        made = good(answer)
        self.keys.append(HistoryKey(tenant, made["key"], made["id"], scope, parent))

    @precondition(lambda self: self.keys)
    @rule(data=st.data())
    def a_key_is_revoked(self, data: st.DataObject) -> None:
        self.step()
        key = self.chosen(data, self.keys)
        answer = self.as_tenant(key.tenant, "POST", f"/v1/api-keys/{key.identity}/revoke")
        self.check(answer.status_code == 200, "a key could not be revoked")
        key.revoked = True

    @precondition(lambda self: self.keys)
    @rule(data=st.data(), scope=st.sampled_from(sorted(_KEY_OPENS)))
    def a_key_is_used(self, data: st.DataObject, scope: Scope) -> None:
        self.step()
        key = self.chosen(data, self.keys)
        status = self.ask(key.text, "GET", _KEY_OPENS[scope]).status_code
        may = key.scope in (scope, Scope.admin)
        expected = 401 if key.ended else 200 if may else 403
        self.check(status == expected, f"a key ({key.scope}, ended: {key.ended}) got {status} for {scope}")

    @rule(data=st.data())
    def a_stranger_asks(self, data: st.DataObject) -> None:
        self.step()
        things = [(one.tenant, f"/v1/schemas/{one.identity}/draft") for one in self.schemas]
        things += [(one.tenant, f"/v1/datasets/{one.identity}/conversations") for one in self.datasets]
        things += [(tenant, f"/v1/runs/{run_id}") for run_id, (tenant, _) in self.runs.items()]
        things += [(number, f"/v1/tenants/{identity}") for number, identity in enumerate(self.tenants)]
        tenant, path = self.chosen(data, things)
        answer = self.as_tenant(1 - tenant, "GET", path)
        self.check(answer.status_code == 404, "another tenant's thing is there")

    # -------------------------------------------------------------------------------------------- invariants

    @invariant()
    def what_is_shown_is_what_was_made(self) -> None:
        """Of one dataset, and of one list, in turns: a look at everything would take longer than all the steps."""
        if not self.tenants:
            return
        tenant = self.numbers % _TENANTS
        schemas = {one.identity for one in self.schemas if one.tenant == tenant}
        listed = good(self.as_tenant(tenant, "GET", "/v1/schemas?limit=200"))["items"]
        self.check({one["id"] for one in listed} == schemas, "the list of schemas is not what was made")
        mine = [one for one in self.datasets if one.tenant == tenant]
        listed = good(self.as_tenant(tenant, "GET", "/v1/datasets?limit=200"))["items"]
        self.check({one["id"] for one in listed} == {one.identity for one in mine}, "datasets differ")
        for one in mine[self.numbers % len(mine) :][:1] if mine else ():
            path = f"/v1/datasets/{one.identity}/conversations?limit=200"
            found = good(self.as_tenant(tenant, "GET", path))["items"]
            names = {conversation["external_id"] for conversation in found}
            self.check(names == one.names, f"a dataset shows {sorted(names ^ one.names)} too many or too few")

    # ------------------------------------------------------------------------------------------------ content

    def draft(self, tenant: int) -> dict[str, Any]:
        word = self.words[tenant]
        categories = [
            {"key": "refund", "name": f"Refund {word}", "definition": f"Wants money back, {self.numbers}."},
            {"key": "late", "name": "Late", "definition": "Asks where a parcel is."},
        ]
        return {"none_of_these": True, "categories": categories}

    def conversation(self, tenant: int, name: str) -> dict[str, Any]:
        """Like no other, so that none is a duplicate."""
        digest = hashlib.sha256(name.encode()).hexdigest()
        words = [digest[start : start + 6] for start in range(0, len(digest), 6)]
        said = f"{self.words[tenant]} {' '.join(words)}"
        return {"id": name, "messages": [{"role": "customer", "text": said}]}


def _labelled(row: int) -> dict[str, str]:
    """Two categories in both of the splits that a run needs."""
    return {"category": ("late", "refund")[row % 2], "split": ("train", "test")[row // 2 % 2]}


async def _worked_off(job_id: UUID, at: Settings) -> None:
    await asyncio.to_thread(runner.run_job, job_id, at)
