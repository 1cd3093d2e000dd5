"""A customer whose one run is real: the starter learns a tenant of its world, from traces to the gate."""

import threading
from collections.abc import Callable
from typing import Any

from app.faults.workload import Customer, PersistentClient
from training.starter.world import demo_tenant


class RealCustomer(Customer):
    def __init__(self, caller: PersistentClient, number: int, other_base: Callable[[], bool]):
        super().__init__(caller, number, 1, other_base)
        self._tenant = demo_tenant(number)
        self._gates: list[dict[str, Any]] = []

    @property
    def missing(self) -> list[str]:
        """A run is followed by its gate, which comes by itself a moment later."""
        measured = any(gate["state"] == "done" for gate in self._gates)
        return [] if measured else ["the verdict on what the run has trained"]

    def _turn(self, turn: int, no_more: threading.Event) -> None:
        """Also when nothing new is to be begun: without its run there is nothing to see."""
        if not self.runs:
            self._run()
        self._follow_runs()
        if not self._open and not self.deployments:
            self._look_at_gates()
            self._deploy()
        self._classify()

    def _look_at_gates(self) -> None:
        """One that could not be measured is asked for again, as an operator would."""
        self._gates = self.caller.ask("GET", "gates").json()["items"]
        states = {gate["state"] for gate in self._gates}
        for verdict in {gate["verdict"] for gate in self._gates if gate["state"] == "done"}:
            self.counts[f"gate {verdict}"] = 1
        if states == {"failed"}:
            self.counts["gate asked for again"] += 1
            self._make("gates", {"model_version_id": self._gates[0]["model_version_id"]})

    def _draft(self) -> dict[str, Any]:
        draft: dict[str, Any] = self._tenant.category_schema.model_dump(mode="json", exclude={"name"})
        return draft

    def _rows(self) -> list[dict[str, Any]]:
        return [one.model_dump(mode="json", exclude_unset=True) for one in self._tenant.conversations]
