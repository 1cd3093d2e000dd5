"""The real vLLM's command line, and what is said where it cannot start. The whole of it runs in the e2e tests."""

import asyncio
import socket
import stat
import tempfile
from importlib import import_module
from pathlib import Path

import pytest

from app.errors import ServingError
from app.serving.base import find_base
from app.serving.fetching import FetchesAdapters
from app.serving.vllm import VllmEndpoint, command, environment, serving
from app.settings import Settings

STARTER = find_base("starter").folder
CPU = Settings(vllm_device="cpu")


def test_vllm_fetches_adapters_where_the_settings_say_so_and_the_name_leads_to_what_does() -> None:
    endpoint = VllmEndpoint("http://vllm", Path("/tmp/s/vllm.sock"))
    assert "--middleware" not in command(STARTER, endpoint, CPU)
    argv = command(STARTER, endpoint, CPU.model_copy(update={"vllm_fetches_adapters": True}))
    module, _, name = argv[argv.index("--middleware") + 1].rpartition(".")
    assert getattr(import_module(module), name) is FetchesAdapters


def test_vllm_listens_on_a_unix_socket_and_nowhere_else() -> None:
    argv = command(STARTER, VllmEndpoint("http://vllm", Path("/tmp/s/vllm.sock")), CPU)
    assert argv[argv.index("--uds") + 1] == "/tmp/s/vllm.sock"
    assert "--host" not in argv
    assert "--port" not in argv


def test_a_port_is_bound_to_the_loopback() -> None:
    argv = command(STARTER, VllmEndpoint("http://127.0.0.1:8123"), CPU)
    assert argv[argv.index("--host") + 1 : argv.index("--host") + 4] == ["127.0.0.1", "--port", "8123"]


def test_no_adapter_can_be_evicted_because_there_is_a_slot_for_each() -> None:
    argv = command(STARTER, VllmEndpoint("http://vllm", Path("s")), CPU)
    assert argv[argv.index("--max-loras") + 1] == argv[argv.index("--max-cpu-loras") + 1] == "8"


@pytest.mark.parametrize(("rank", "slot"), [(4, "8"), (8, "8"), (9, "16"), (32, "32"), (33, "64")])
def test_the_rank_is_rounded_up_to_one_that_vllm_knows(rank: int, slot: str) -> None:
    argv = command(STARTER, VllmEndpoint("http://vllm", Path("s")), Settings(vllm_max_lora_rank=rank))
    assert argv[argv.index("--max-lora-rank") + 1] == slot


def test_a_gpu_gets_other_flags_than_a_cpu() -> None:
    endpoint = VllmEndpoint("http://vllm", Path("s"))
    cpu, gpu = (command(STARTER, endpoint, Settings(vllm_device=device)) for device in ("cpu", "gpu"))
    assert "--enforce-eager" in cpu
    assert cpu[cpu.index("--block-size") + 1] == "32"  # vLLM's own are four times as long
    assert not {"--enforce-eager", "--block-size"} & set(gpu)
    assert "--gpu-memory-utilization" in gpu
    assert environment(CPU)["VLLM_CPU_KVCACHE_SPACE"] == "1"
    assert environment(CPU)["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"
    assert environment(CPU)["HF_HUB_OFFLINE"] == "1"


def test_a_port_in_use_is_refused_before_vllm_is_started(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = Settings(vllm_port=taken.getsockname()[1], socket_dir=tmp_path)
        with (
            pytest.raises(ServingError, match=r"STEERWISE_VLLM_PORT"),
            serving(tmp_path, tmp_path / "log", settings, lambda passed: None),
        ):
            pass
    assert not (tmp_path / "log").exists()
    assert list(tmp_path.iterdir()) == []


def test_a_socket_path_that_the_system_cannot_hold_is_refused(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    with (
        pytest.raises(ServingError, match="too long for a Unix socket"),
        serving(tmp_path, tmp_path / "log", Settings(socket_dir=deep), lambda passed: None),
    ):
        pass


def test_requests_to_a_socket_ignore_the_environments_proxy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    path = tmp_path / "s.sock"

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()

    async def asked() -> str:
        async with (
            await asyncio.start_unix_server(echo, path),
            VllmEndpoint("http://vllm", path).async_client() as client,
        ):
            return (await client.get("/health")).text

    assert asyncio.run(asked()) == "ok"


@pytest.mark.slow
def test_a_vllm_that_does_not_start_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    modes: list[int] = []
    with tempfile.TemporaryDirectory(prefix="sw-") as short:  # tmp_path can be too long for a socket
        (tmp_path / "config.json").write_text("{}")
        settings = Settings(vllm_extra_args=("--no-such-option",), socket_dir=Path(short))

        def waiting(passed: float) -> None:
            modes.extend(stat.S_IMODE(p.stat().st_mode) for p in Path(short).glob("steerwise-vllm-*"))

        with (
            pytest.raises(ServingError, match=r"vLLM did not start .exit code") as caught,
            serving(tmp_path, tmp_path / "vllm.log", settings, waiting),
        ):
            pass
        assert not list(Path(short).iterdir())
    assert any("no-such-option" in line for line in caught.value.details), caught.value.details
    assert set(modes) == {0o700}
