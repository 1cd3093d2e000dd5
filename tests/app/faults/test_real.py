"""A fault run whose one run is real: who asks for it, until when it is waited for, and what cannot be broken then."""

import threading
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from app.faults import injections
from app.faults import run as faults_run
from app.faults.parts import QUICK, REAL
from app.faults.plant import NotReady, Plant
from app.faults.real import RealCustomer
from app.faults.report import Times
from app.faults.run import FaultRun, Quiet, _pace, _Running
from app.faults.workload import PersistentClient


class Caller:
    """Answers as the API does, and keeps what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.gates: list[dict[str, Any]] = []

    def ask(self, method: str, path: str, **_more: Any) -> httpx.Response:
        self.asked.append((method, path))
        match method, path:
            case "GET", "gates":
                return httpx.Response(200, json={"items": self.gates})
            case "GET", "runs/run":
                return httpx.Response(200, json={"state": "succeeded"})
            case "GET", _:
                return httpx.Response(200, json={"state": "ready"})
        return httpx.Response(200, json={"id": "run" if path == "runs" else "made"})

    def try_once(self, method: str, path: str, **_more: Any) -> httpx.Response:
        self.asked.append((method, path))
        return httpx.Response(200, json={})


def gate(state: str, verdict: str | None = None) -> dict[str, Any]:
    return {"id": "gate", "state": state, "verdict": verdict, "model_version_id": "model"}


def customer(caller: Caller) -> RealCustomer:
    return RealCustomer(cast(PersistentClient, caller), 1, lambda: False)


def test_it_asks_for_one_run_and_waits_until_its_gate_has_a_verdict() -> None:
    caller = Caller()
    one = customer(caller)
    for caller.gates in ([], [gate("running")], [gate("done", "failed")]):
        assert one.waiting
        one._turn(1, threading.Event())
    assert not one.waiting and one.missing == [] and one.counts["gate failed"] == 1
    assert [path for method, path in caller.asked if (method, path) == ("POST", "runs")] == ["runs"]
    assert one.deployments == []  # what no gate has passed


def test_a_gate_that_could_not_be_measured_is_asked_for_again() -> None:
    caller = Caller()
    caller.gates = [gate("failed")]
    one = customer(caller)
    one._turn(1, threading.Event())
    assert ("POST", "gates") in caller.asked and one.waiting
    assert one.missing == ["the verdict on what the run has trained"]


def test_the_whole_tenant_is_uploaded_with_its_splits() -> None:
    rows = customer(Caller())._rows()
    assert {row["split"] for row in rows} >= {"train", "test"} and len(rows) > 500
    assert len(customer(Caller())._draft()["categories"]) > 2


def plant(*, real: bool, **more: Any) -> Plant:
    told = SimpleNamespace(
        parts=REAL if real else QUICK, real_vllm=real, on_postgres=False, store=None, clock=None, missing={},
        disk=SimpleNamespace(problem="none here"), **more,
    )  # fmt: skip
    return cast(Plant, told)


def test_what_a_real_model_server_cannot_be_made_to_do_is_named() -> None:
    known = {fault.name for fault in injections.faults(plant(real=False))}
    left = {fault.name for fault in injections.faults(plant(real=True))}
    assert known - left == {"vLLM answers 500"}
    assert "vLLM answers 500" in injections.not_injected_here(plant(real=True))


def test_the_pace_is_that_of_every_quiet_while_together() -> None:
    assert _pace([Quiet(100, 50), Quiet(50, 10)]) == 0.4
    assert _pace([]) is None
    assert FaultRun(1, 20, True).rounds == 4 and FaultRun(1, 0.3, True).rounds == 1
    assert FaultRun(1, 20, True, real=True).rounds == 1


def test_what_faults_have_left_is_mended_before_the_pace_is_measured_again() -> None:
    done: list[str] = []

    def note(what: str, result: Any = None) -> Any:
        return lambda *_: done.append(what) or result

    running = SimpleNamespace(
        asked=FaultRun(1, 20, False), plant=plant(real=False, wait_until_ready=note("ready")),
        _inject=note("faults"), _pause=note("pause"), _quiet=note("quiet", Quiet(10, 5)),
    )  # fmt: skip
    assert list(_Running._rounds(cast(_Running, running), 0.0, [])) == [Quiet(10, 5)] * 4
    assert done == ["faults", "ready", "pause", "quiet"] * 4
    done.clear()
    running.asked = FaultRun(1, 0.3, False)
    assert list(_Running._rounds(cast(_Running, running), 0.0, [])) == [] and done == ["faults"]


def test_a_product_that_is_not_ready_again_ends_the_run_and_not_only_its_waiting() -> None:
    def not_ready() -> None:
        raise NotReady("it stays degraded")

    running = SimpleNamespace(
        asked=FaultRun(1, 20, False), plant=plant(real=False, wait_until_ready=not_ready),
        _inject=lambda *_: None, _pause=lambda *_: None, _quiet=lambda *_: Quiet(10, 1),
    )  # fmt: skip
    with pytest.raises(NotReady):
        list(_Running._rounds(cast(_Running, running), 0.0, []))


def test_what_begins_by_itself_after_everything_had_ended_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SimpleNamespace(at=100.0)
    monkeypatch.setattr(faults_run, "time", SimpleNamespace(monotonic=lambda: clock.at))

    def pause(*_: object) -> None:
        clock.at += 1

    running = SimpleNamespace(
        asked=FaultRun(1, 20, False), _pause=pause,
        _all_ended=lambda: 105 <= clock.at < 107 or clock.at >= 130,
    )  # fmt: skip
    assert _Running._until_ended(cast(_Running, running), 90.0, []) == 40 and clock.at > 140


def test_where_no_pace_was_measured_the_report_has_no_ideal() -> None:
    real, other = Times(900, 8, None, 60), Times(900, 400, 0.5, 60)
    assert (real.ideal_s, real.ratio) == (None, None) and "ideal" not in " ".join(real.lines)
    assert other.ideal_s == 860 and "1.05 x the ideal 860 s" in other.lines[0]
