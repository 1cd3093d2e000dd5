"""What customers do meanwhile: they upload, edit, train, deploy and ask, and send again what was not answered.

A request counts as accepted once it was answered with a success, and only then.
"""

import hashlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import UUID

import httpx

from app.faults.history import Accepted, Edit, GivenAnswer, Upload
from app.serving.base import STARTER

_ROWS = {"train": 26, "test": 24}
_CATEGORIES = ("refund", "delivery")
_TIMEOUT_S = 20
_PAUSE_S = 1.0
_LOOKED_AT = 3  # runs a turn
_RUNS_A_DATASET = 4
_TURNS_AN_EDIT = 10
_AGAIN_S = (0.2, 1.0)


class RefusedForGood(Exception):
    """An answer that sending again does not change."""

    def __init__(self, response: httpx.Response):
        super().__init__(
            f"{response.request.method} {response.request.url.path}: {response.status_code} {response.text}"
        )
        self.response = response

    @property
    def code(self) -> str:
        try:
            return str(self.response.json().get("code"))
        except ValueError:
            return ""


class RunOver(Exception):
    """The run is over."""


class PersistentClient:
    """A client that asks until it is answered. ended: nobody waits for an answer any more."""

    def __init__(self, url: str, key: str, tenant_id: str | None, ended: threading.Event):
        headers = {"Authorization": f"Bearer {key}"} | ({} if tenant_id is None else {"X-Tenant": tenant_id})
        self._client = httpx.Client(base_url=f"{url}/v1", headers=headers, timeout=_TIMEOUT_S)
        self._ended = ended
        self.again = 0

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Raises: RefusedForGood, RunOver."""
        pause_s = _AGAIN_S[0]
        while not self._ended.is_set():
            response = self.try_once(method, path, **more)
            if response is not None and response.status_code < 400:
                return response
            if response is not None and response.status_code < 500 and response.status_code not in (408, 429):
                raise RefusedForGood(response)
            self.again += 1
            self._ended.wait(pause_s)
            pause_s = min(2 * pause_s, _AGAIN_S[1])
        raise RunOver

    def try_once(self, method: str, path: str, **more: Any) -> httpx.Response | None:
        """None where there was no answer."""
        try:
            return self._client.request(method, path, **more)
        except httpx.TransportError:
            return None

    def close(self) -> None:
        self._client.close()


class Customer:
    """One tenant. number: another for each. open_runs: as many as it has at a time.

    other_base: whether another base than that of its runs is served just now, surely.
    """

    def __init__(self, caller: PersistentClient, number: int, open_runs: int, other_base: Callable[[], bool]):
        self.caller, self._open_runs, self._other_base = caller, open_runs, other_base
        self._rng = random.Random(number)
        self._number = number * 1_000_000
        self.uploads: list[Upload] = []
        self.edits: list[Edit] = []
        self.runs: dict[int, str] = {}
        self.doubtful: set[int] = set()
        self.deployments: list[str] = []
        self.answers: list[GivenAnswer] = []
        self.counts = Counter[str]()
        self.surprises: list[str] = []
        self.schema_id = ""
        self._datasets: list[str] = []
        self._open: dict[str, None] = {}  # in the order in which they are looked at
        self._deployed: set[str] = set()
        self._versions = 0

    @property
    def accepted(self) -> Accepted:
        return Accepted(
            tuple(self.uploads),
            tuple(self.edits),
            dict(self.runs),
            tuple(self.deployments),
            frozenset(self.doubtful),
        )

    @property
    def waiting(self) -> bool:
        """Whether something that was accepted has not come to its end."""
        return bool(self._open or self.missing)

    @property
    def missing(self) -> list[str]:
        """What should have come by itself, without a request that was accepted."""
        return []

    def begin(self) -> None:
        draft = self._draft()
        self.schema_id = self._make("schemas", {"name": "orders", "draft": draft})
        self._publish(draft)
        self._upload()

    def work(self, stop: threading.Event, no_more: threading.Event) -> None:
        """Until `stop`. no_more: nothing new is begun; what was is followed to its end."""
        turn = 0
        while not stop.is_set():
            turn += 1
            try:
                self._turn(turn, no_more)
            except RefusedForGood as refused:
                self._refused(refused)
            except RunOver:
                return
            stop.wait(_PAUSE_S)

    def _turn(self, turn: int, no_more: threading.Event) -> None:
        self._follow_runs()
        if not no_more.is_set():
            while len(self._open) < self._open_runs and not no_more.is_set():
                self._run()
            if turn % _TURNS_AN_EDIT == 0:
                self._edit()
            if not self.deployments or turn % _TURNS_AN_EDIT == _TURNS_AN_EDIT // 2:
                self._deploy()
        self._classify()

    def _refused(self, refused: RefusedForGood) -> None:
        """What a customer meets and understands: another base for a moment, a share, an answer that never came."""
        self.counts[f"refused: {refused.code}"] += 1
        if refused.code not in ("base_not_served", "share_exceeded", "request_in_flight", "model_not_served"):
            self.surprises.append(str(refused))

    # ------------------------------------------------------------------------------------------------ what is made

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _make(self, path: str, body: dict[str, Any]) -> str:
        headers = {"Idempotency-Key": f"faults-{path}-{self._next()}"}
        return str(self.caller.ask("POST", path, json=body, headers=headers).json()["id"])

    def _draft(self) -> dict[str, Any]:
        number = self._next()
        definition = f"Wants money back, as edit {number} says."
        return {
            "none_of_these": True,
            "categories": [
                {"key": "refund", "name": "Refund", "definition": definition},
                {"key": "delivery", "name": "Delivery", "definition": "Asks where an order is."},
            ],
        }

    def _edit(self) -> None:
        draft = self._draft()
        path = f"schemas/{self.schema_id}/draft"
        self.caller.ask("PUT", path, json=draft, headers={"If-Match": "*"})
        self._publish(draft)

    def _publish(self, draft: dict[str, Any]) -> None:
        """Publishing the same again gives the same version, so it may be sent until it is answered."""
        made = self.caller.ask("POST", f"schemas/{self.schema_id}/publish").json()
        definition = made["content"]["categories"][0]["definition"]
        wanted = draft["categories"][0]["definition"]
        if definition != wanted:
            self.surprises.append(f"what was published is not what was written last: {definition}")
        self.edits.append(Edit(self.schema_id, made["number"], wanted))

    def _upload(self) -> None:
        rows = self._rows()
        content = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
        dataset_id = self._make("datasets", {"name": f"chats {self._number}", "schema_id": self.schema_id})
        path = f"datasets/{dataset_id}/content"
        while True:
            sent = self.caller.try_once(
                "PUT", path, content=content, headers={"Content-Type": "application/jsonl"}
            )
            if sent is not None and sent.status_code < 300:
                break
            arrived = self.caller.ask("HEAD", path)
            if arrived.headers["Upload-Complete"] == "?1":
                break
            time.sleep(_AGAIN_S[0])
        self.uploads.append(Upload(dataset_id, hashlib.sha256(content).hexdigest(), len(rows)))
        self._datasets.append(dataset_id)

    def _rows(self) -> list[dict[str, Any]]:
        return [self._row(split) for split, count in _ROWS.items() for _ in range(count)]

    def _row(self, split: str) -> dict[str, Any]:
        number = self._next()
        text = "".join(self._rng.choices("abcdefghijklmnopqrstuvwxyz", k=30))
        row = {"id": str(UUID(int=number)), "category": _CATEGORIES[number % 2], "split": split}
        return row | {"messages": [{"role": "customer", "text": text}]}

    def _run(self) -> None:
        if len(self.runs) >= _RUNS_A_DATASET * len(self._datasets):
            self._upload()
        dataset_id = self._datasets[-1]
        if self.caller.ask("GET", f"datasets/{dataset_id}").json()["state"] != "ready":
            if len(self._datasets) == 1:
                self._wait_until_ready(dataset_id)
            else:
                dataset_id = self._datasets[-2]
        seed = self._next()
        body = {"schema_id": self.schema_id, "dataset_id": dataset_id, "preset": "smoke", "seed": seed}
        headers = {"Idempotency-Key": f"faults-run-{seed}"}
        try:
            made = self.caller.ask("POST", "runs", json=body | {"base": STARTER}, headers=headers).json()
        except RefusedForGood as refused:
            if refused.code == "request_in_flight":  # of one whose API was killed, for five minutes
                self.doubtful.add(seed)
            raise
        except RunOver:
            self.doubtful.add(seed)
            raise
        self.runs[seed] = made["id"]
        self._open[made["id"]] = None

    def _wait_until_ready(self, dataset_id: str) -> None:
        while self.caller.ask("GET", f"datasets/{dataset_id}").json()["state"] != "ready":
            time.sleep(_AGAIN_S[0])

    def _follow_runs(self) -> None:
        """Some of them at a time, the oldest first. One that failed is retried, as an operator would."""
        looked_at = list(self._open)[:_LOOKED_AT]
        for run_id in looked_at:
            run = self.caller.ask("GET", f"runs/{run_id}").json()
            del self._open[run_id]
            if run["state"] == "succeeded":
                continue
            self._open[run_id] = None  # as the last
            if run["state"] == "failed":
                self.counts[f"run failed: {run['error']['code']}"] += 1
                self.surprises.append(f"run {run_id} failed: {run['error']}")
                self.caller.ask("POST", f"runs/{run_id}/retry")

    def _deploy(self) -> None:
        """The newest gate that has passed and was not deployed yet."""
        gates = self.caller.ask("GET", "gates", params={"limit": 20}).json()["items"]
        fit = [
            gate["id"] for gate in gates if gate["verdict"] == "passed" and gate["id"] not in self._deployed
        ]
        if not fit:
            return
        self._deployed.add(fit[0])
        made = self._make("deployments", {"gate_id": fit[0]})
        self.deployments.append(made)

    def _classify(self) -> None:
        """Asked once: what is not answered is not what this is about."""
        if not self.deployments:
            return
        other_before = self._other_base()
        body = {"schema_id": self.schema_id, "text": "where is my parcel"}
        answer = self.caller.try_once("POST", "classify", json=body)
        other = other_before and self._other_base()
        if answer is None or answer.status_code != 200:
            code = "nothing" if answer is None else str(answer.status_code)
            self.counts[f"not answered: {code}"] += 1
            return
        self.counts["answered"] += 1
        told = answer.json()
        if told["deployment_id"] is None and not self.answers:
            return  # nothing is live yet
        self.answers.append(GivenAnswer(told["deployment_id"], told["gate"], not other))
