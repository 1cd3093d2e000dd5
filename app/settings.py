"""Where things are on this machine; what a run does is asked for elsewhere (presets and the command line)."""

import tempfile
from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.errors import InputError


class Settings(BaseSettings):
    """Each field can be set in the environment: `STEERWISE_` and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix="STEERWISE_", extra="ignore", frozen=True)

    vllm_device: str = Field("auto", pattern="^(auto|cpu|gpu)$")
    vllm_port: int | None = Field(None, ge=1, le=65535)  # None: a Unix socket of its own
    vllm_dtype: str = "auto"
    vllm_start_timeout_s: float = Field(600, gt=0)
    vllm_stop_timeout_s: float = Field(20, ge=0)
    vllm_max_model_len: int = Field(4096, ge=256)
    vllm_max_lora_rank: int = Field(32, ge=1)
    vllm_max_adapters: int = Field(8, ge=1)
    vllm_max_num_seqs: int = Field(64, ge=1)
    vllm_cpu_kv_cache_gib: int = Field(1, ge=1)
    vllm_gpu_memory_fraction: float = Field(0.6, gt=0, lt=1)
    vllm_extra_args: tuple[str, ...] = ()
    socket_dir: Path = Path(tempfile.gettempdir())
    concurrency: int = Field(32, ge=1)
    stage_stop_timeout_s: float = Field(15, ge=0)
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
