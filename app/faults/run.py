"""A fault run: the product at work, the faults, and in the end the question whether everything is there, once."""

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from app.errors import AppError
from app.faults import checker, injections
from app.faults.history import Accepted, FaultHistory
from app.faults.injections import Injection, NotInjected
from app.faults.parts import QUICK, REAL, PlantParts
from app.faults.plant import Plant
from app.faults.postgres import programs, version
from app.faults.real import RealCustomer
from app.faults.recorder import Recorder
from app.faults.report import FaultReport, Happened, Times, held_s
from app.faults.scratch import scratch_folder
from app.faults.workload import Customer, PersistentClient
from app.infra import failpoints, outage
from app.infra.tables.jobs import JobState
from app.jobs import repository as jobs
from training.protocol import STAGES

_AT_ONCE = 4
_PACE_SHARE, _LEAST_PACE_S = 0.1, 10.0  # of the time, to see how fast it is without faults
_ROUNDS = 4  # the pace is measured before, and after each: nobody has a machine to himself for half an hour
_LEAST_JOBS = 5  # that have to end in it
# For a first deployment, or five jobs, without a fault: others may have the machine meanwhile, and a fault run that
# gives up has told nothing.
_FULL_TIMEOUT_S = 1200.0
_LEAST_END_S, _LEAST_REAL_END_S = 240.0, 3600.0
_LOOK_S = 0.25
_STAYS_S = 10.0  # a deployment that has ended is followed by gates of what was edited meanwhile, which a sweep begins

Tell = Callable[[str, str], None]


class Size(NamedTuple):
    """open_runs: of each tenant, at a time. step_s: of a stage, which has four."""

    open_runs: int
    step_s: float


_SHORT, _LONG = Size(2, 0.1), Size(6, 0.25)
_SHORT_MINUTES = 2


class Quiet(NamedTuple):
    """A while without faults, and how many jobs ended in it."""

    seconds: float
    jobs: int


class FaultRun(NamedTuple):
    """every_s: from one fault to the next. scratch: None for a temporary folder. keep: it stays. real: one run that
    trains and is measured as ever, in the place of many that do not; `minutes` is then the most."""

    seed: int
    minutes: float
    on_postgres: bool
    every_s: float = 2.0
    scratch: Path | None = None
    keep: bool = False
    real: bool = False

    @property
    def parts(self) -> PlantParts:
        return REAL if self.real else QUICK

    @property
    def short(self) -> bool:
        return self.minutes < _SHORT_MINUTES

    @property
    def size(self) -> Size:
        return _SHORT if self.short else _LONG

    @property
    def rounds(self) -> int:
        return 1 if self.short or self.real else _ROUNDS


class Broken(AppError):
    """The fault run itself could not go on; its folder has the logs."""

    code = "fault_run_broken"


def run(asked: FaultRun, tell: Tell) -> FaultReport:
    """Call from the main thread. Nothing that was started is left. Raises: AppError."""
    with scratch_folder(asked.scratch, keep=asked.keep) as scratch, ExitStack() as stack:
        tell("scratch", str(scratch))
        plant = Plant(
            scratch, asked.parts, on_postgres=asked.on_postgres, step_s=asked.size.step_s, stack=stack
        )
        stack.enter_context(_storage_here(plant))
        plant.wait_until_ready()
        tell("ready", plant.api_url)
        return _Running(asked, plant, tell, stack).report()


@contextmanager
def _storage_here(plant: Plant) -> Iterator[None]:
    """The client of the object store reads its settings from the environment of whoever asks."""
    ours = {name: value for name, value in plant.environment.items() if name.startswith("AWS_")}
    before = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    for name in before:
        del os.environ[name]
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)
        os.environ.update(before)


class _Running:
    def __init__(self, asked: FaultRun, plant: Plant, tell: Tell, stack: ExitStack):
        self.asked, self.plant, self.tell = asked, plant, tell
        self.stop, self.no_more = threading.Event(), threading.Event()
        self.recorder = Recorder(plant)
        self.customers = self._customers(stack)
        self.happened: list[Happened] = []
        self.pool = ThreadPoolExecutor(_AT_ONCE + asked.parts.tenants + 1)
        stack.callback(self.pool.shutdown, cancel_futures=True)
        stack.callback(self.stop.set)

    def _customers(self, stack: ExitStack) -> list[Customer]:
        url, key = self.plant.api_url, self.plant.key
        admin = PersistentClient(url, key, None, self.stop)
        stack.callback(admin.close)
        made = []
        for number in range(1, self.asked.parts.tenants + 1):
            tenant = admin.ask("POST", "tenants", json={"name": f"tenant {number}"}).json()["id"]
            caller = PersistentClient(url, key, tenant, self.stop)
            stack.callback(caller.close)
            served = self.plant.other_base_served.is_set
            made.append(
                RealCustomer(caller, number, served)
                if self.asked.real
                else Customer(caller, number, self.asked.size.open_runs, served)
            )
        return made

    # ----------------------------------------------------------------------------------------------- its course

    def report(self) -> FaultReport:
        for customer in self.customers:
            customer.begin()
        background = [self.pool.submit(one.work, self.stop, self.no_more) for one in self.customers]
        background.append(self.pool.submit(self.recorder.look_until, self.stop))
        at_first = [] if self.asked.real else [self._first_quiet(background)]
        began_at, before = time.monotonic(), self._done()
        between = list(self._rounds(began_at, background))
        self.tell("faults", f"{len(self.happened)}; now everything may end")
        self.no_more.set()
        took_s = self._until_ended(began_at, background) - sum(quiet.seconds for quiet in between)
        jobs = self._done() - before - sum(quiet.jobs for quiet in between)
        self.stop.set()
        for one in background:
            one.result()
        return self._judged(Times(took_s, jobs, _pace(at_first + between), held_s(self.happened)))

    def _first_quiet(self, background: list[Future[None]]) -> Quiet:
        """Once every customer has a deployment, so that all kinds of jobs come."""
        deadline = time.monotonic() + _FULL_TIMEOUT_S
        while not all(customer.answers for customer in self.customers):
            self._pause(_LOOK_S, background)
            if time.monotonic() > deadline:
                raise Broken("nothing was deployed, even without a fault", self._surprises())
        return self._quiet(background)

    def _quiet(self, background: list[Future[None]]) -> Quiet:
        before, began_at = self._done(), time.monotonic()
        share_s = self.asked.minutes * 60 * _PACE_SHARE / self.asked.rounds
        self._pause(max(_LEAST_PACE_S, share_s), background)
        while (done := self._done() - before) < _LEAST_JOBS:
            self._pause(_LOOK_S, background)
            if time.monotonic() > began_at + _FULL_TIMEOUT_S:
                raise Broken("hardly a job ends on this machine, even without a fault", self._surprises())
        quiet = Quiet(time.monotonic() - began_at, done)
        self.tell("pace", f"{quiet.jobs / quiet.seconds:.2f} jobs a second without faults")
        return quiet

    def _rounds(self, began_at: float, background: list[Future[None]]) -> Iterator[Quiet]:
        """Faults, and what was quiet between them; what they left to mend is mended before, as a part of their time.

        Raises: NotReady where it is not: a pace that is measured then would make every run look fast.
        """
        rng = random.Random(self.asked.seed)
        coming = injections.schedule(injections.faults(self.plant), rng)
        for _ in range(self.asked.rounds):
            self._inject(coming, rng, began_at, background)
            if self.asked.rounds > 1:
                self.plant.wait_until_ready()
                self._pause(2 * self.asked.parts.lease_s, background)
                yield self._quiet(background)

    def _inject(
        self, coming: Iterator[Injection], rng: random.Random, began_at: float, background: list[Future[None]]
    ) -> None:
        busy: dict[str, Future[None]] = {}
        waiting: list[Injection] = []
        due = time.monotonic()
        until = due + self.asked.minutes * 60 / self.asked.rounds
        while time.monotonic() < until and not (self.asked.real and self._all_ended()):
            busy = {name: one for name, one in busy.items() if not _ended(one)}
            if len(busy) < _AT_ONCE:
                waiting.append(next(coming))
                free = next((fault for fault in waiting if fault.touches not in busy), None)
                if free is not None:
                    waiting.remove(free)
                    seed = rng.getrandbits(32)
                    busy[free.touches] = self.pool.submit(self._one, free, seed, began_at)
            due += self.asked.every_s * rng.uniform(0.5, 1.5)
            self._pause(max(0.05, due - time.monotonic()), background)
        for one in busy.values():
            one.result()

    def _one(self, fault: Injection, seed: int, began_at: float) -> None:
        at_s = time.monotonic() - began_at
        try:
            done = fault.inject(self.plant, random.Random(seed))
        except NotInjected:
            return
        until_s = time.monotonic() - began_at
        if done.place is not None:
            at_s = until_s  # it held nothing while it was waited for
        self.happened.append(Happened(fault.name, at_s, until_s, *done))

    def _until_ended(self, began_at: float, background: list[Future[None]]) -> float:
        """Seconds until all that was accepted had ended, or until it was not waited for any longer."""
        least_s = _LEAST_REAL_END_S if self.asked.real else _LEAST_END_S
        deadline = time.monotonic() + max(least_s, self.asked.minutes * 60 * 0.5)
        ended_at: float | None = None
        while time.monotonic() < deadline:
            self._pause(_LOOK_S, background)
            now = time.monotonic()
            if not self._all_ended():
                ended_at = None
            elif ended_at is None:
                ended_at = now
            elif now > ended_at + _STAYS_S:
                break
        return (ended_at or time.monotonic()) - began_at

    def _all_ended(self) -> bool:
        return not any(customer.waiting for customer in self.customers) and not self._open()

    def _pause(self, seconds: float, background: list[Future[None]]) -> None:
        """Raises: what has ended in the background, which it should not have."""
        time.sleep(seconds)
        for one in background:
            if one.done():
                one.result()
                raise Broken("a customer or the recorder has ended before its time")
        if self.plant.broken is not None:
            raise self.plant.broken

    # --------------------------------------------------------------------------------------------- what is looked at

    def _done(self) -> int:
        return self._surely(lambda: self._count((JobState.succeeded,)))

    def _open(self) -> int:
        return self._surely(lambda: self._count(jobs.OPEN))

    def _count(self, states: Sequence[JobState]) -> int:
        return self.recorder.read(lambda session: jobs.count_in(session, states))

    def _surely(self, look: Callable[[], int]) -> int:
        while True:
            try:
                return look()
            except Exception as error:
                if not outage.passes(error):
                    raise
                time.sleep(_LOOK_S)

    def _surprises(self) -> list[str]:
        return [line for customer in self.customers for line in customer.surprises]

    def _accepted(self) -> Accepted:
        each = [customer.accepted for customer in self.customers]
        runs = {seed: run_id for one in each for seed, run_id in one.runs.items()}
        return Accepted(
            [upload for one in each for upload in one.uploads],
            [edit for one in each for edit in one.edits],
            runs,
            [deployment for one in each for deployment in one.deployments],
            frozenset(seed for one in each for seed in one.doubtful),
        )

    def _judged(self, times: Times) -> FaultReport:
        found = self.recorder.found()
        not_alone = self.plant.scratch / "not-alone"
        history = FaultHistory(
            self._accepted(),
            found,
            self.recorder.claims,
            self.recorder.looks,
            [answer for customer in self.customers for answer in customer.answers],
            not_alone.read_text().split("\n")[:-1] if not_alone.exists() else [],
            [what for customer in self.customers for what in customer.missing],
        )
        stages = [job for job in found.jobs if job.kind in STAGES and job.state == "succeeded"]
        seen = list((self.plant.points / failpoints.SEEN).iterdir())
        return FaultReport(
            seed=self.asked.seed,
            database=f"PostgreSQL {version(programs())}" if self.plant.on_postgres else "SQLite",
            lease_s=self.asked.parts.lease_s,
            happened=sorted(self.happened, key=lambda one: one.at_s),
            stages=len(stages),
            runs=len(found.runs),
            times=times,
            borders=(len(seen), len(self.plant.point_hits)),
            violations=checker.check(history),
            not_injected=injections.not_injected_here(self.plant),
            told=self._told(),
            surprises=self._surprises(),
            looks=len(self.recorder.looks),
        )

    def _told(self) -> Mapping[str, int]:
        told = Counter[str]()
        for customer in self.customers:
            told += customer.counts
            told["requests sent again"] += customer.caller.again
        return told


def _pace(quiet: Sequence[Quiet]) -> float | None:
    """Jobs a second; None where nothing was measured."""
    seconds = sum(one.seconds for one in quiet)
    return sum(one.jobs for one in quiet) / seconds if seconds else None


def _ended(one: Future[None]) -> bool:
    if one.done():
        one.result()
    return one.done()
