"""The whole product in a scratch folder: its servers and processes, kept alive unless a fault holds one down."""

import asyncio
import importlib.util
import json
import os
import random
import secrets
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import httpx
from alembic.script import ScriptDirectory

import app
from app.auth import bootstrap
from app.errors import AppError
from app.faults import quick
from app.faults.clock import Clock, NoCompiler
from app.faults.nursery import Nursery
from app.faults.object_store import BUCKET
from app.faults.parts import PlantParts
from app.faults.postgres import PostgresServer
from app.faults.scratch import Disk
from app.infra import failpoints
from app.infra.db import migrate
from app.local.recipes import free_port
from app.local.redis import RedisServer, embedded_redis
from app.serving.base import STARTER, find_base
from app.settings import Settings

REPUBLISH_S = 3
STAGE_STEPS = 4
_LOOK_EVERY_S = 0.1
_CONNECT_TIMEOUT_S = 180
_LATELY_S = 60
_OWNER, _APP, _PLATFORM, _PASSWORD = "steerwise_owner", "steerwise_app", "steerwise_platform", "faults"
# What is committed has to be there after a crash of the server; the machine's own crash is not tried.
_POSTGRES = {"fsync": "off", "shared_buffers": "32MB", "max_connections": "80"}


class NotReady(AppError):
    """The product does not come up in the scratch folder; its logs lie there."""

    code = "fault_run_broken"


class Addresses(NamedTuple):
    """database: as the application; platform, admin: as the other roles, None on SQLite."""

    database: str
    platform: str | None
    admin: str | None


class Plant:
    """missing: what is not there, and why. clock: that of the first worker, where it can jump."""

    def __init__(
        self, scratch: Path, parts: PlantParts, *, on_postgres: bool, step_s: float, stack: ExitStack
    ):
        """step_s: of a stage that is not real, which has four. Call from the main thread, before there is another.
        Everything ends with `stack`."""
        self.scratch, self.parts, self.on_postgres, self.step_s = scratch, parts, on_postgres, step_s
        self.missing: dict[str, str] = {}
        self.real_vllm = parts.real and self._has_vllm()
        self.logs = scratch / "logs"
        self.logs.mkdir()
        self.restarts = Counter[str]()
        self.point_hits = Counter[str]()  # of failpoints
        self._asked_points: dict[str, int] = {}  # how often each was tried
        self.other_base_served = threading.Event()
        self._held = Counter[str]()
        self._guard = threading.Lock()
        self._changed: dict[str, Mapping[str, str]] = {}
        self._ending = threading.Event()
        self.broken: Exception | None = None  # what keeps the parts alive has ended itself
        self.disk = Disk(scratch / "home", parts.disk_mib)
        stack.callback(self.disk.close)
        self.points = scratch / "failpoints"
        for name in (failpoints.SEEN, failpoints.ARMED, failpoints.HIT):
            (self.points / name).mkdir(parents=True)
        self.postgres = self._make_postgres(stack) if on_postgres else None
        self.addresses = self._make_database()
        self.redis: RedisServer = stack.enter_context(embedded_redis(scratch / "redis", Settings()))
        self.store = self._folder("store") if self._has_s3() else None
        self.clock = self._make_clock()
        self.ports = {name: free_port() for name in ("api", "store", *parts.models)}
        self.environment = self._environment()
        self.settings = self._settings()
        self.other_base = self._copy_base()
        self.versions = _versions()
        self.key = bootstrap.run(self.settings).text
        self.nursery = Nursery(self.logs / "nursery.log", self.environment)
        stack.callback(self.nursery.close)
        self._starts = self._all_starts()
        keeper = threading.Thread(target=self._keep, daemon=True)
        keeper.start()
        stack.callback(keeper.join)
        stack.callback(self._ending.set)

    # ------------------------------------------------------------------------------------------------ how it is made

    def _folder(self, name: str) -> Path:
        folder = self.scratch / name
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def _make_postgres(self, stack: ExitStack) -> PostgresServer:
        # In the system's own place: another user runs it, and a socket's path is short.
        folder = Path(tempfile.mkdtemp(prefix="sw-faults-pg-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        server = PostgresServer(folder, _POSTGRES)
        stack.callback(server.stop_at_once)
        server.start()
        return server

    def _make_database(self) -> Addresses:
        if self.postgres is None:
            return Addresses(f"sqlite:///{self.scratch / 'home'}/steerwise.db", None, None)
        server = self.postgres
        asyncio.run(_prepare_postgres(server.url("postgres")))
        roles = {"app_role": _APP, "platform_role": _PLATFORM}
        migrate.upgrade(server.url("steerwise", _OWNER, _PASSWORD), **roles)
        return Addresses(
            server.url("steerwise", _APP, _PASSWORD),
            server.url("steerwise", _PLATFORM, _PASSWORD),
            server.url("steerwise"),
        )

    def _has_vllm(self) -> bool:
        if importlib.util.find_spec("vllm") is None:
            self.missing["vllm"] = "it is not installed, and a stand-in speaks for it"
            return False
        return True

    def _has_s3(self) -> bool:
        if importlib.util.find_spec("s3fs") is None:
            self.missing["store"] = "its client, the extra `s3`, is not installed"
            return False
        return True

    def _make_clock(self) -> Clock | None:
        if not self.on_postgres:
            self.missing["clock"] = "with SQLite the time is each process's own, and all are on one machine"
            return None
        try:
            return Clock(self._folder("clock"))
        except NoCompiler as error:
            self.missing["clock"] = str(error)
            return None

    def _environment(self) -> dict[str, str]:
        """Nothing of ours that the caller's environment may say reaches an installation that is not this one."""
        others = {
            name: value for name, value in os.environ.items() if not name.startswith(("STEERWISE_", "AWS_"))
        }
        ours: dict[str, Any] = {
            "HOME": self.scratch / "home",
            "DATABASE_URL": self.addresses.database,
            "REDIS_URL": self.redis.url,
            "STORAGE_URL": self.scratch / "home" / "storage" if self.store is None else f"s3://{BUCKET}/run",
            "SECRET": secrets.token_hex(32),
            "PORT": self.ports["api"],
            "BASE": STARTER,
            "VLLM_URLS": json.dumps([f"http://127.0.0.1:{self.ports[name]}" for name in self.parts.models]),
            **self._adapters(),
            "TENANT_OPEN_RUNS": 100,
            "TENANT_OPEN_GATES": 1000,
            "JOB_LEASE_S": self.parts.lease_s,
            "JOB_HEARTBEAT_S": self.parts.heartbeat_s,
            "JOB_REPUBLISH_S": REPUBLISH_S,
            "STAGE_STOP_TIMEOUT_S": self.parts.stop_timeout_s,
            "MIN_FREE_MIB": 1,
            "FAILPOINTS": self.points,
        }
        if self.addresses.platform is not None:
            ours["PLATFORM_DATABASE_URL"] = self.addresses.platform
        told = {f"STEERWISE_{name}": str(value) for name, value in ours.items()}
        told |= {quick.STEPS: f"{STAGE_STEPS} {self.step_s}", quick.FOUND: str(self.scratch / "not-alone")}
        if self.store is not None:
            told |= {
                "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{self.ports['store']}",
                "AWS_REGION": "us-east-1",
            }
            told |= {"AWS_ACCESS_KEY_ID": "faults", "AWS_SECRET_ACCESS_KEY": "faults"}
            told |= {"AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1"}
        root = str(Path(next(iter(app.__path__))).parent)  # so that our packages are found from any folder
        return (
            others
            | told
            | {
                "PYTHONPATH": root,
                "OMP_NUM_THREADS": "1",
                "OPENBLAS_NUM_THREADS": "1",
                "TOKENIZERS_PARALLELISM": "false",
            }
        )

    def _adapters(self) -> dict[str, Any]:
        """A real vLLM has a slot for each, as wide as those of the smallest preset; a stand-in has room for all. With
        an object store the real one has no disk in common with the others."""
        if not self.real_vllm:
            return {"VLLM_MAX_ADAPTERS": 1000, "TENANT_ADAPTERS": 500}
        return {
            "VLLM_MAX_ADAPTERS": 8,
            "VLLM_MAX_LORA_RANK": 8,
            "VLLM_FETCHES_ADAPTERS": self.store is not None,
        }

    def _settings(self) -> Settings:
        """As the processes have them."""
        given = {name: value for name in Settings.model_fields
                 if (value := self.environment.get(f"STEERWISE_{name.upper()}")) is not None}  # fmt: skip
        return Settings.model_validate(given)

    def _copy_base(self) -> Path:
        """Another base of the same shape."""
        folder = self.scratch / "other-base"
        shutil.copytree(find_base(STARTER).folder, folder)
        config = folder / "config.json"
        config.write_text(config.read_text() + "\n")
        return folder

    # --------------------------------------------------------------------------------------------- what is kept alive

    def _all_starts(self) -> dict[str, Callable[[], object]]:
        starts: dict[str, Callable[[], object]] = {"redis": self.redis.revive}
        if self.postgres is not None:
            starts["postgres"] = self.postgres.start
        model = "vllm" if self.real_vllm else "model"
        roles = {name: [model, str(self.ports[name]), str(self._folder(name))] for name in self.parts.models}
        if self.store is not None:
            roles["store"] = ["store", str(self.ports["store"]), str(self.store)]
        worker = "worker" if self.parts.real else "quick-worker"
        roles |= {name: [worker, "gpu"] for name in self.parts.gpu_workers}
        roles |= {"worker-cpu": [worker, "cpu"], "dispatcher": ["dispatcher"], "api": ["api"]}
        return starts | {name: _bound(self._start, name, role) for name, role in roles.items()}

    def _start(self, name: str, role: list[str]) -> None:
        environment = self.environment | dict(self._changed.get(name, {}))
        if self.clock is not None and name == self.parts.gpu_workers[0]:
            environment |= self.clock.environment
        self.nursery.start(name, role, environment, self.logs / f"{name}.log")

    def alive(self, name: str) -> bool:
        match name:
            case "redis":
                return self.redis.child.poll() is None
            case "postgres":
                return self.postgres is not None and self.postgres.alive()
        return self.nursery.pid(name) is not None

    def _keep(self) -> None:
        try:
            while not self._ending.wait(_LOOK_EVERY_S):
                for name, start in self._starts.items():
                    self._revive(name, start)
        except Exception as error:  # noqa: BLE001 (whatever it is, the main thread says it)
            self.broken = error

    def _revive(self, name: str, start: Callable[[], object]) -> None:
        with self._guard:
            if not self._held[name] and not self.alive(name):
                start()
                self.restarts[name] += 1

    # ---------------------------------------------------------------------------------------------------- for faults

    def next_point(self, rng: random.Random) -> str | None:
        """Of the failpoints that were come to lately one that was tried least."""
        now = time.time()
        seen = (self.points / failpoints.SEEN).iterdir()
        lately = sorted(path.name for path in seen if now - path.stat().st_mtime < _LATELY_S)
        if not lately:
            return None
        with self._guard:
            least = min(self._asked_points.get(name, 0) for name in lately)
            place = rng.choice([name for name in lately if self._asked_points.get(name, 0) == least])
            self._asked_points[place] = least + 1
        return place

    def signal(self, name: str, number: int = signal.SIGKILL) -> bool:
        """To the process and its group; False where it does not run."""
        pid = self.nursery.pid(name)
        if pid is None:
            return False
        with suppress(ProcessLookupError):
            os.killpg(pid, number)
            return True
        return False

    @contextmanager
    def held_down(self, name: str) -> Iterator[None]:
        """It is not started again before the end."""
        with self._guard:
            self._held[name] += 1
        try:
            yield
        finally:
            with self._guard:
                self._held[name] -= 1

    @contextmanager
    def otherwise(self, environment: Mapping[str, str], *names: str) -> Iterator[None]:
        """These processes are started anew with something else in their environment, and afterwards as before."""
        try:
            for name in names:
                self._changed[name] = environment
                self.signal(name)
            yield
        finally:
            for name in names:
                self._changed.pop(name, None)
                self.signal(name)

    def start_another(self, name: str, role: list[str]) -> None:
        """Beside those that are kept alive; to be ended by whoever asked for it."""
        self.nursery.start(name, role, self.environment, self.logs / f"{name}.log")

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['api']}"

    def wait_until_ready(self) -> None:
        """Raises: NotReady."""
        deadline = time.monotonic() + self.parts.ready_timeout_s
        problem = "it does not answer"
        while time.monotonic() < deadline:
            try:
                told = httpx.get(f"{self.api_url}/readyz", timeout=5)
                problem = told.text
                if told.status_code == 200 and told.json().get("status") != "degraded":
                    return
            except (httpx.TransportError, ValueError) as error:
                problem = str(error)
            time.sleep(0.5)
        raise NotReady(f"the product does not become ready in {self.scratch}: {problem}")


def _bound(start: Callable[[str, list[str]], None], name: str, role: list[str]) -> Callable[[], None]:
    return lambda: start(name, role)


def _versions() -> tuple[str, str]:
    """Of the database: the newest, and the one before it."""
    known = ScriptDirectory(str(migrate.migrations_folder()))
    [newest] = known.get_heads()
    before = known.get_revision(newest).down_revision
    assert isinstance(before, str)
    return newest, before


async def _prepare_postgres(url: str) -> None:
    connection = await _connected(url)
    try:
        for role in (_OWNER, _APP, _PLATFORM):
            await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{_PASSWORD}'")
        await connection.execute(f"CREATE DATABASE steerwise OWNER {_OWNER} TEMPLATE template0")
    finally:
        await connection.close()


async def _connected(url: str) -> Any:
    deadline = time.monotonic() + _CONNECT_TIMEOUT_S
    while True:
        try:
            return await asyncpg.connect(url)
        except (OSError, asyncpg.CannotConnectNowError):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)
