"""`steerwise serve`: the whole product on one machine, in one command, until Ctrl-C."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import NamedTuple

from app.auth import bootstrap
from app.auth.bootstrap import AlreadyBootstrapped
from app.errors import InputError
from app.infra.db import migrate
from app.infra.machine import machine
from app.infra.outage import said_plainly
from app.infra.private import private_home
from app.infra.storage import open_storage
from app.jobs.handlers import Queue
from app.local import home, recipes
from app.local.part import Part, PartRecipe, Tell
from app.local.recipes import LocalSetup
from app.local.redis import embedded_redis
from app.local.watch import signals, watch
from app.serving.base import find_base, tried
from app.serving.vllm import endpoint_in
from app.settings import Settings

_HERE = ("127.0.0.1", "::1", "localhost")


class PortTaken(InputError):
    """Somebody listens where the API is to listen."""


class LocalPlan(NamedTuple):
    """model: of the vLLM to start here; None where none is to be started."""

    settings: Settings
    model: Path | None


def plan(settings: Settings, tell: Tell, *, with_vllm: bool) -> LocalPlan:
    """Everything that can be found wrong before anything is started or written. Raises: InputError."""
    check_port(settings)
    private_home(settings.home)  # before a base is built in it
    wanted = with_vllm and not settings.vllm_urls
    if not wanted:
        return LocalPlan(settings, None)
    folder = find_base(settings.base, settings.home, partial(tell, "base")).folder
    tried(folder)
    return LocalPlan(settings, folder)


def check_port(settings: Settings) -> None:
    """Raises: InputError, PortTaken."""
    where = f"{settings.host}:{settings.port}"
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, number) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror as error:
        raise InputError(f"{settings.host} is no address of this machine: {error.strerror}") from None
    except OSError as error:
        raise PortTaken(
            f"{where} cannot be used ({error.strerror}); choose another with --port or --host"
        ) from None


def run(planned: LocalPlan, tell: Tell) -> None:
    """Until a signal comes. Raises: AppError; nothing that was started is left when it returns or raises."""
    settings = planned.settings
    with ExitStack() as stack:
        asked = stack.enter_context(signals())
        lock = stack.enter_context(home.locked(settings.home))
        sockets = stack.enter_context(home.socket_folder(settings.home, settings.socket_dir))
        if settings.host not in _HERE:
            tell("network", "plain HTTP for whoever reaches this machine; put a proxy with TLS in front")
        tell("home", f"{settings.home} (logs: {settings.home / 'logs'})")
        _prepare(settings, tell)
        ground = LocalSetup(settings, recipes.environment(settings), lock, sockets)
        found = stack.enter_context(_recipes(ground, planned.model, tell))
        where = recipes.url_here(settings)
        ready = f"{where} (its documentation: {where}/docs); Ctrl-C stops everything"
        watch([Part(recipe, tell) for recipe in found], asked, lambda: tell("ready", ready))
    tell("stopped", "everything that was started has ended")


def _prepare(settings: Settings, tell: Tell) -> None:
    with said_plainly():
        migrate.upgrade(settings.database_url)
    open_storage(settings.storage_url)
    tell("database", "up to date")
    try:
        made = bootstrap.run(settings)
    except AlreadyBootstrapped:
        tell("admin key", "made before; `steerwise admin bootstrap --new` makes another")
    else:
        tell("admin key", f"{made.text} (shown this once and stored nowhere)")


def _beside_vllm(ground: LocalSetup) -> LocalSetup:
    """What the model server on a GPU leaves of its memory is what a stage there may need."""
    settings = ground.settings
    if settings.worker_memory_gib is not None or not settings.on_gpu:
        return ground
    here = machine(on_gpu=True)
    if not here.gpus:
        return ground
    left = here.room_bytes * (1 - settings.vllm_gpu_memory_fraction)
    return ground.with_settings(worker_memory_gib=f"{left / (1 << 30):.2f}")


@contextmanager
def _recipes(ground: LocalSetup, model: Path | None, tell: Tell) -> Iterator[list[PartRecipe]]:
    """In the order of use: each uses some of those before it."""
    settings = ground.settings
    with ExitStack() as stack:
        found: list[PartRecipe] = []
        if settings.redis_url is None:
            here = settings.model_copy(update={"socket_dir": ground.sockets})
            server = stack.enter_context(embedded_redis(settings.home / "redis", here))
            if server.program.warning is not None:
                tell("redis", server.program.warning)
            ground = ground.with_settings(redis_url=server.url)
            found.append(recipes.redis(server))
        if model is not None:
            # A name of its own: a killed vLLM that ends late removes the socket that it had made.
            folder = Path(mkdtemp(prefix="vllm-", dir=ground.sockets))
            endpoint = endpoint_in(folder, settings)
            ground = ground.with_settings(vllm_urls=recipes.vllm_urls(endpoint))
            found.append(recipes.serving(ground, model, endpoint))
            ground = _beside_vllm(ground)
        elif not settings.vllm_urls:
            tell("vllm", "not started (--no-vllm): gates wait and classification is refused without one")
        found += [recipes.worker(ground, queue) for queue in Queue]
        yield [*found, recipes.dispatcher(ground), recipes.api(ground)]
