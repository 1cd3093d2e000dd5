"""The real vLLM as a child process: started, watched, given adapters, stopped.

It listens on a Unix socket in a folder of its own (mode 0700), or on the loopback port that the settings name, and on
nothing else, because vLLM's key guards only some of its routes.
"""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import httpx
from httpx_aiohttp import AiohttpTransport

from app.errors import AdapterRefused, InputError, ServingError
from app.infra.processes import how_it_ended, log_tail, spawn, stop
from app.serving import adapters, processor
from app.serving.base import context_of
from app.settings import Settings
from training.protocol import SHARED_CORES

T = TypeVar("T")

BASE_NAME = "base"
MAX_LOGPROBS = 128  # vLLM's own bound on logprob_token_ids; a schema has at most 101 answers
FEW_CORES = 4
CPU_BLOCK = 32  # tokens; the least that its kernels take. Of what is cached only whole blocks are used
_POLL_S = 0.25
_LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
_LIMITS = httpx.Limits(max_connections=512, max_keepalive_connections=128)


class VllmEndpoint(NamedTuple):
    """Where a vLLM answers. socket: path of its Unix socket, or None where base_url is reachable as it is."""

    base_url: str
    socket: Path | None = None

    def client(self, timeout_s: float = 120) -> httpx.Client:
        transport = httpx.HTTPTransport(uds=str(self.socket)) if self.socket else None
        return httpx.Client(base_url=self.base_url, transport=transport, timeout=timeout_s, trust_env=False)

    def async_client(self, timeout_s: float = 300) -> httpx.AsyncClient:
        uds = str(self.socket) if self.socket else None
        secure = self.base_url.startswith(
            "https:"
        )  # reading the certificates takes longer than many a request
        transport = AiohttpTransport(uds=uds, limits=_LIMITS, verify=secure, trust_env=False)
        return httpx.AsyncClient(
            base_url=self.base_url, transport=transport, timeout=timeout_s, trust_env=False
        )

    @property
    def url(self) -> str:
        """As STEERWISE_VLLM_URLS names it."""
        return f"unix://{self.socket}" if self.socket else self.base_url


def endpoint_at(url: str) -> VllmEndpoint:
    """url: http://host:port or unix:///path/of/vllm.sock. Raises: InputError."""
    parsed = httpx.URL(url)
    if parsed.scheme == "unix" and not parsed.host and len(parsed.path) > 1:
        return VllmEndpoint("http://vllm", Path(url.removeprefix("unix://")))
    if parsed.scheme in ("http", "https") and parsed.host:
        return VllmEndpoint(url.rstrip("/").removesuffix("/v1"))
    raise InputError(f"{url!r} names no model server; write http://host:port or unix:///path/of/vllm.sock")


class VllmProcess(NamedTuple):
    endpoint: VllmEndpoint
    child: subprocess.Popen[bytes]
    log: Path
    settings: Settings

    def load(self, folder: Path) -> str:
        """Serve the adapter; returns the model name to ask for. Raises: AdapterRefused, before or by vLLM."""
        adapter = adapters.check(folder, self.settings.vllm_max_lora_rank)
        if len(self.models()) > self.settings.vllm_max_adapters:
            raise AdapterRefused(
                f"vLLM was started for {self.settings.vllm_max_adapters} adapters and has as many"
            )
        name = adapters.served_name(adapter)
        response = self._post(
            "/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder.resolve())}
        )
        if response.status_code != 200:
            raise AdapterRefused(f"vLLM refused the adapter {folder}", [response.text[:500]])
        return name

    def unload(self, name: str) -> None:
        response = self._post("/v1/unload_lora_adapter", {"lora_name": name})
        if response.status_code != 200:
            raise ServingError(f"vLLM could not unload {name}", [response.text[:500]])

    def models(self) -> list[str]:
        with self.endpoint.client() as client:
            return [entry["id"] for entry in client.get("/v1/models").raise_for_status().json()["data"]]

    def _post(self, route: str, body: dict[str, str]) -> httpx.Response:
        try:
            with self.endpoint.client() as client:
                return client.post(route, json=body)
        except httpx.TransportError as error:
            raise ServingError(f"vLLM does not answer: {error}", log_tail(self.log)) from error


@contextmanager
def serving(
    model: Path, log: Path, settings: Settings, waiting: Callable[[float], None]
) -> Iterator[VllmProcess]:
    """A vLLM that answers for `model` under the name `base`; stopped at the end, whatever happens.

    waiting: called with the seconds passed while vLLM starts.
    """
    folder = Path(tempfile.mkdtemp(prefix="steerwise-vllm-", dir=settings.socket_dir))
    child = None
    try:
        endpoint = endpoint_in(folder, settings)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")
        child = spawn(command(model, endpoint, settings), log, environment(settings))
        _wait_until_healthy(child, endpoint, log, settings, waiting)
        yield VllmProcess(endpoint, child, log, settings)
    finally:
        if child is not None:
            stop(child, settings.vllm_stop_timeout_s)
        shutil.rmtree(folder, ignore_errors=True)


async def while_alive(vllm: VllmProcess, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`; ServingError at once where vLLM dies under it, instead of a retry for each question."""
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait({task}, timeout=1.0))[0]:
            if vllm.child.poll() is not None:
                ending = how_it_ended(vllm.child.returncode)
                raise ServingError(
                    f"vLLM died ({ending}); run the same command again to go on", log_tail(vllm.log)
                )
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def command(model: Path, endpoint: VllmEndpoint, settings: Settings) -> list[str]:
    """`python -m …api_server` and not `vllm serve`: the CPU package installs no such command."""
    where = ["--uds", str(endpoint.socket)] if endpoint.socket else _host_and_port(endpoint)
    rank = next((r for r in _LORA_RANKS if r >= settings.vllm_max_lora_rank), _LORA_RANKS[-1])
    argv = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), *where]
    argv += ["--served-model-name", BASE_NAME, "--dtype", dtype(settings), "--generation-config", "vllm"]
    argv += [
        "--max-model-len",
        str(context_of(model, settings)),
        "--max-num-seqs",
        str(settings.vllm_max_num_seqs),
    ]
    argv += ["--max-logprobs", str(MAX_LOGPROBS), "--enable-prefix-caching"]
    argv += ["--enable-prompt-tokens-details", "--disable-uvicorn-access-log"]
    # As many slots as adapters: an adapter that was evicted and cannot be read again ends the engine for everyone.
    argv += ["--enable-lora", "--max-lora-rank", str(rank), "--max-loras", str(settings.vllm_max_adapters)]
    argv += ["--max-cpu-loras", str(settings.vllm_max_adapters)]
    if settings.vllm_fetches_adapters:
        argv += ["--middleware", "app.serving.fetching.FetchesAdapters"]
    if settings.on_gpu:
        argv += ["--gpu-memory-utilization", str(settings.vllm_gpu_memory_fraction)]
    else:
        argv += ["--enforce-eager", "--block-size", str(CPU_BLOCK)]
    return [*argv, *settings.vllm_extra_args]


def environment(settings: Settings) -> dict[str, str]:
    ours = {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
    }
    if settings.on_gpu:
        return dict(os.environ) | ours
    ours["VLLM_CPU_KVCACHE_SPACE"] = str(settings.vllm_cpu_kv_cache_gib)
    return dict(SHARED_CORES) | dict(os.environ) | ours | _threads(settings, processor.cores())


def _threads(settings: Settings, cores: int) -> dict[str, str]:
    """How vLLM's own start is changed. It says so in its settings who wants another: much that starts a shell leaves an
    OMP_NUM_THREADS of 1 behind.

    Its engine sends messages to a worker process that computes, and waits for the answer on a core of its own: on two
    cores half of the machine. Where the engine computes itself, on all cores, that is gained; with many cores one is
    not missed, and vLLM's own binding of threads to cores is worth more.
    """
    if cpu_engine(settings, cores) == "separate":
        # vLLM's own binding keeps one core for the engine and has none left for the worker.
        return {"VLLM_CPU_OMP_THREADS_BIND": "nobind"} if cores < 2 else {}
    return {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(settings.vllm_cpu_threads or cores),
    }


def cpu_engine(settings: Settings, cores: int) -> str:
    if settings.vllm_cpu_engine != "auto":
        return settings.vllm_cpu_engine
    return "in_process" if cores <= FEW_CORES else "separate"


def dtype(settings: Settings) -> str:
    """As the processor has it.

    [measured: 24 answers of a model of 135 M parameters cost 8.8 s of processor time in bfloat16 with AVX-512 BF16 and
    13.6 s in float32; without such units bfloat16 is ten times slower than float32]
    """
    if settings.on_gpu or settings.vllm_dtype != "auto":
        return settings.vllm_dtype
    return "bfloat16" if processor.has_bf16() else "float32"


def endpoint_in(folder: Path, settings: Settings) -> VllmEndpoint:
    """Where a vLLM of our own is to listen. folder: for its socket, nobody else's. Raises: ServingError."""
    if settings.vllm_port is None:
        path = folder / "vllm.sock"
        if len(os.fsencode(path)) > 100:
            raise ServingError(
                f"the path {path} is too long for a Unix socket; set STEERWISE_SOCKET_DIR to a shorter one"
            )
        return VllmEndpoint("http://vllm", path)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", settings.vllm_port))
        except OSError as error:
            raise ServingError(
                f"port {settings.vllm_port} cannot be used ({error.strerror}); set STEERWISE_VLLM_PORT to a free one, "
                "or to nothing for a Unix socket"
            ) from None
    return VllmEndpoint(f"http://127.0.0.1:{settings.vllm_port}")


def _host_and_port(endpoint: VllmEndpoint) -> list[str]:
    url = httpx.URL(endpoint.base_url)
    return ["--host", url.host, "--port", str(url.port)]


def _wait_until_healthy(
    child: subprocess.Popen[bytes],
    endpoint: VllmEndpoint,
    log: Path,
    settings: Settings,
    waiting: Callable[[float], None],
) -> None:
    start = time.monotonic()
    while (passed := time.monotonic() - start) < settings.vllm_start_timeout_s:
        if child.poll() is not None:
            raise ServingError(
                f"vLLM did not start ({how_it_ended(child.returncode)}); its log: {log}", log_tail(log)
            )
        if _healthy(endpoint):
            return
        waiting(passed)
        time.sleep(_POLL_S)
    timeout = f"vLLM was not ready after {settings.vllm_start_timeout_s:.0f} s; its log: {log}"
    raise ServingError(timeout, log_tail(log))


def _healthy(endpoint: VllmEndpoint) -> bool:
    if endpoint.socket is not None and not endpoint.socket.exists():
        return False
    try:
        with endpoint.client(timeout_s=2) as client:
            return client.get("/health").status_code == 200
    except httpx.TransportError:
        return False
