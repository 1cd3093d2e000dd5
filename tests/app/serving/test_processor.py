"""How vLLM is started on this processor and on others."""

import os
from pathlib import Path

import pytest

from app.serving import processor, vllm
from app.serving.processor import has_bf16
from app.settings import Settings

EPYC = "flags\t\t: fpu vme avx2 avx512f avx512_bf16 avx512_vnni\n"
SAPPHIRE = "flags\t\t: fpu vme avx2 avx512f amx_bf16 amx_tile\n"
OLD = "flags\t\t: fpu vme avx2 avx512f avx512bw\n"
CPU = Settings(vllm_device="cpu")
OURS = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "2"}


@pytest.mark.parametrize(
    ("flags", "found"), [(EPYC, True), (SAPPHIRE, True), (OLD, False), ("Features\t: fp asimd bf16\n", False)]
)
def test_bf16_in_hardware_is_read_from_the_processors_flags(flags: str, found: bool, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nmodel name\t: some CPU\n{flags}\nprocessor\t: 1\n")
    assert has_bf16(tmp_path / "cpuinfo") is found


def test_a_machine_that_does_not_say_has_none(tmp_path: Path) -> None:
    assert not has_bf16(tmp_path / "no such file")


def test_precision_follows_from_the_processor_unless_somebody_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processor, "has_bf16", lambda: True)
    assert vllm.dtype(CPU) == "bfloat16"
    monkeypatch.setattr(processor, "has_bf16", lambda: False)
    assert vllm.dtype(CPU) == "float32"
    assert vllm.dtype(CPU.model_copy(update={"vllm_dtype": "bfloat16"})) == "bfloat16"
    assert vllm.dtype(Settings(vllm_device="gpu")) == "auto"


@pytest.mark.parametrize(
    ("cores", "engine", "ours"),
    [
        (2, "auto", True),
        (4, "auto", True),
        (16, "auto", False),
        (2, "separate", False),
        (16, "in_process", True),
    ],
)
def test_on_few_cores_the_engine_computes_itself(
    cores: int, engine: str, ours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "cores", lambda: cores)
    for name in OURS:
        monkeypatch.delenv(name, raising=False)
    environment = vllm.environment(CPU.model_copy(update={"vllm_cpu_engine": engine}))
    wanted = OURS | {"OMP_NUM_THREADS": str(cores)} if ours else dict.fromkeys(OURS)
    assert {name: environment.get(name) for name in OURS} == wanted


def test_a_worker_beside_the_engine_is_bound_to_no_core_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processor, "cores", lambda: 1)
    environment = vllm.environment(CPU.model_copy(update={"vllm_cpu_engine": "separate"}))
    assert environment["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"
    assert "VLLM_ENABLE_V1_MULTIPROCESSING" not in environment


def test_threads_are_as_the_settings_say_whatever_a_shell_has_left_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processor, "cores", lambda: 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert vllm.environment(CPU)["OMP_NUM_THREADS"] == "2"
    assert vllm.environment(CPU.model_copy(update={"vllm_cpu_threads": 3}))["OMP_NUM_THREADS"] == "3"


def test_cores_are_those_that_the_process_may_use() -> None:
    assert processor.cores() == len(os.sched_getaffinity(0))


def test_threads_sleep_while_they_wait_unless_somebody_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Spinning, they stand still where another process has one of the cores."""
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert vllm.environment(CPU)["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert vllm.environment(CPU)["OMP_WAIT_POLICY"] == "ACTIVE"
