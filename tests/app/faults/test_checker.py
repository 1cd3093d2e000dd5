"""Whoever looks for violations sees each of them: in a history that is as it should be, one is planted at a time."""

from collections.abc import Callable
from typing import Any

import pytest

from app.faults.checker import Invariant, check
from app.faults.history import (
    Accepted,
    Artifact,
    Claim,
    Edit,
    EndState,
    FaultHistory,
    FoundDataset,
    FoundJob,
    FoundModel,
    FoundRun,
    GivenAnswer,
    LiveDeployment,
    LiveLook,
    Upload,
)
from training.protocol import STAGES

Plant = Callable[[FaultHistory], FaultHistory]
LIVE = LiveDeployment("deployment", "passed", True)


def event(name: str, **more: Any) -> dict[str, Any]:
    return {"event": name} | more


def stage(kind: str) -> FoundJob:
    """Its first worker was lost."""
    events = [
        event("queued"),
        event("started", epoch=1),
        event("lost", epoch=1),
        event("started", epoch=2),
        event("succeeded", result={"sha256": kind}),
    ]
    return FoundJob(f"job {kind}", kind, "run", "run", "succeeded", 2, events)


def history() -> FaultHistory:
    accepted = Accepted(
        [Upload("dataset", "aa", 50)], [Edit("schema", 1, "late")], {7: "run"}, ["deployment"], frozenset({8})
    )
    found = EndState(
        datasets={"dataset": FoundDataset("ready", "aa", 50)},
        versions={("schema", 1): "late"},
        runs=[FoundRun("run", 7, "succeeded", None)],
        jobs=[stage(kind) for kind in STAGES],
        models=[FoundModel("model", "run", {kind: kind for kind in STAGES})],
        gates={"gate": "done"},
        deployments={"deployment": "live"},
        artifacts=[Artifact("key", "ab", "ab")],
    )
    claims = [Claim("job", 1, "one"), Claim("job", 1, "one"), Claim("job", 2, "two")]
    looks = [LiveLook("schema", []), LiveLook("schema", [LIVE]), LiveLook("schema", [LIVE])]
    return FaultHistory(accepted, found, claims, looks, [GivenAnswer("deployment", "passed", True)], [])


def in_found(**changed: Any) -> Plant:
    return lambda good: good._replace(found=good.found._replace(**changed))


def with_events(*events: dict[str, Any], epoch: int = 2) -> Plant:
    """Of the last stage."""
    last = stage("rl")._replace(events=[*events, event("succeeded", result={"sha256": "rl"})], epoch=epoch)
    return in_found(jobs=[*(stage(kind) for kind in STAGES[:-1]), last])


def live_as(**changed: Any) -> Plant:
    return lambda good: good._replace(looks=[*good.looks, LiveLook("schema", [LIVE._replace(**changed)])])


RUN = FoundRun("run", 7, "succeeded", None)
PLANTED: dict[str, tuple[Invariant, Plant]] = {
    "a lost upload": (Invariant.lost, in_found(datasets={})),
    "an upload that was never read": (
        Invariant.lost,
        in_found(datasets={"dataset": FoundDataset("uploaded", "aa", 0)}),
    ),
    "an upload with other bytes": (
        Invariant.lost,
        in_found(datasets={"dataset": FoundDataset("ready", "bb", 50)}),
    ),
    "a lost row": (Invariant.lost, in_found(datasets={"dataset": FoundDataset("ready", "aa", 49)})),
    "a row that is there twice": (
        Invariant.doubled,
        in_found(datasets={"dataset": FoundDataset("ready", "aa", 51)}),
    ),
    "a lost edit": (Invariant.lost, in_found(versions={})),
    "an edit that says something else": (Invariant.lost, in_found(versions={("schema", 1): "early"})),
    "a lost run": (Invariant.lost, in_found(runs=[], models=[], jobs=[])),
    "a run that failed for good": (Invariant.lost, in_found(runs=[RUN._replace(state="failed")])),
    "two runs of one request": (
        Invariant.doubled,
        in_found(runs=[RUN, RUN._replace(run_id="second", state="queued")]),
    ),
    "a run that nobody asked for": (
        Invariant.doubled,
        in_found(runs=[RUN, FoundRun("second", 9, "queued", None)]),
    ),
    "a doubled effect": (
        Invariant.doubled,
        with_events(
            event("started", epoch=1), event("succeeded", result={"sha256": "rl"}), event("started", epoch=2)
        ),
    ),
    "a second model": (
        Invariant.doubled,
        in_found(
            models=[FoundModel(name, "run", {kind: kind for kind in STAGES}) for name in ("one", "two")]
        ),
    ),
    "a run without its model": (Invariant.lost, in_found(models=[])),
    "a model that its stages did not make": (
        Invariant.lost,
        in_found(models=[FoundModel("model", "run", dict.fromkeys(STAGES, "other"))]),
    ),
    "a job that never ended": (
        Invariant.lost,
        in_found(
            jobs=[*(stage(kind) for kind in STAGES), stage("gate")._replace(state="queued", run_id=None)]
        ),
    ),
    "a claim of what somebody has": (
        Invariant.owner,
        with_events(event("started", epoch=1), event("started", epoch=2)),
    ),
    "two owners at one time": (
        Invariant.owner,
        lambda good: good._replace(claims=[*good.claims, Claim("job", 2, "three")]),
    ),
    "two trainers in one folder": (
        Invariant.owner,
        lambda good: good._replace(not_alone=["runs/1/stages/4-rl"]),
    ),
    "an epoch that did not grow": (
        Invariant.epoch,
        with_events(event("started", epoch=2), event("lost"), event("started", epoch=2)),
    ),
    "an epoch that was taken back": (Invariant.epoch, with_events(event("started", epoch=3))),
    "an epoch that was seen again": (
        Invariant.epoch,
        lambda good: good._replace(claims=[*good.claims, Claim("job", 1, "one")]),
    ),
    "an artifact that changed": (Invariant.artifact, in_found(artifacts=[Artifact("key", "ab", "cd")])),
    "an artifact that is gone": (Invariant.artifact, in_found(artifacts=[Artifact("key", "ab", None)])),
    "nothing live any more": (
        Invariant.live,
        lambda good: good._replace(looks=[*good.looks, LiveLook("schema", [])]),
    ),
    "two live at one time": (
        Invariant.live,
        lambda good: good._replace(looks=[*good.looks, LiveLook("schema", [LIVE, LIVE])]),
    ),
    "one live whose gate failed": (Invariant.live, live_as(verdict="failed")),
    "one live on another base": (Invariant.live, live_as(fits=False)),
    "an answer of a model on another base": (
        Invariant.live,
        lambda good: good._replace(answers=[GivenAnswer("deployment", "passed", False)]),
    ),
    "an answer that no gate allows": (
        Invariant.live,
        lambda good: good._replace(answers=[GivenAnswer("deployment", "none", True)]),
    ),
    "a verdict that never came": (
        Invariant.lost,
        lambda good: good._replace(missing=["the verdict on what the run has trained"]),
    ),
    "a deployment that was forgotten": (Invariant.lost, in_found(deployments={"deployment": "pending"})),
}


def test_a_history_as_it_should_be_has_no_violation() -> None:
    assert check(history()) == []


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_violation_is_seen(planted: str) -> None:
    rule, plant = PLANTED[planted]
    assert rule in {violation.rule for violation in check(plant(history()))}


def test_every_rule_has_been_planted() -> None:
    assert {rule for rule, _ in PLANTED.values()} == set(Invariant)


def test_a_run_whose_answer_never_came_may_be_there_once() -> None:
    doubtful = FoundRun("second", 8, "running", None)
    assert check(in_found(runs=[RUN, doubtful])(history())) == []
    twice = in_found(runs=[RUN, doubtful, doubtful._replace(run_id="third")])
    assert [one.rule for one in check(twice(history()))] == [Invariant.doubled]
