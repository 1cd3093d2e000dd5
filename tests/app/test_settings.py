"""Where things are comes from the environment; a value that cannot be used is named, not ignored."""

import pytest

from app.errors import InputError
from app.settings import Settings, load_settings


def test_a_setting_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERWISE_VLLM_PORT", "8123")
    monkeypatch.setenv("STEERWISE_VLLM_EXTRA_ARGS", '["--seed", "1"]')
    settings = load_settings()
    assert (settings.vllm_port, settings.vllm_extra_args) == (8123, ("--seed", "1"))


@pytest.mark.parametrize(
    ("name", "value"), [("VLLM_PORT", "http"), ("VLLM_PORT", "0"), ("VLLM_DEVICE", "tpu")]
)
def test_a_value_that_cannot_be_used_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"STEERWISE_{name}", value)
    with pytest.raises(InputError) as caught:
        load_settings()
    assert caught.value.details[0].startswith(f"STEERWISE_{name}:")


def test_the_device_can_be_forced() -> None:
    assert Settings(vllm_device="gpu").on_gpu
    assert not Settings(vllm_device="cpu").on_gpu
