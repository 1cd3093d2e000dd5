"""Where things are comes from the environment; a value that cannot be used is named, not ignored."""

from pathlib import Path

import pytest

from app.errors import InputError
from app.settings import Settings, load_settings


def test_a_setting_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERWISE_VLLM_PORT", "8123")
    monkeypatch.setenv("STEERWISE_VLLM_EXTRA_ARGS", '["--seed", "1"]')
    settings = load_settings()
    assert (settings.vllm_port, settings.vllm_extra_args) == (8123, ("--seed", "1"))


def test_a_list_is_words_or_json(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("http://one:1 unix:///two", '["http://one:1", "unix:///two"]'):
        monkeypatch.setenv("STEERWISE_VLLM_URLS", text)
        assert load_settings().vllm_urls == ("http://one:1", "unix:///two")


@pytest.mark.parametrize(
    ("name", "value"),
    [("VLLM_PORT", "http"), ("VLLM_PORT", "0"), ("VLLM_DEVICE", "tpu"), ("VLLM_URLS", "[http://one]")],
)
def test_a_value_that_cannot_be_used_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"STEERWISE_{name}", value)
    with pytest.raises(InputError) as caught:
        load_settings()
    assert caught.value.details[0].startswith(f"STEERWISE_{name}:")


def test_the_device_can_be_forced() -> None:
    assert Settings(vllm_device="gpu").on_gpu
    assert not Settings(vllm_device="cpu").on_gpu


def test_what_the_embedded_default_keeps_is_all_in_one_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("STEERWISE_HOME", "~/kept")
    settings = load_settings()
    assert settings.home == tmp_path / "kept"
    assert settings.database_url == f"sqlite+aiosqlite:///{tmp_path}/kept/steerwise.db"
    assert settings.storage_url == f"{tmp_path}/kept/storage"
    monkeypatch.chdir(tmp_path)
    assert Settings(home=Path("here")).storage_url == f"{tmp_path}/here/storage"


def test_secrets_are_not_shown_and_must_be_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERWISE_DATABASE_URL", "postgresql://app:hunter2@db/steerwise")
    monkeypatch.setenv("STEERWISE_SECRET", "x" * 32)
    assert "hunter2" not in repr(load_settings()) and "xxx" not in repr(load_settings())
    monkeypatch.setenv("STEERWISE_SECRET", "short")
    with pytest.raises(InputError) as caught:
        load_settings()
    assert caught.value.details[0].startswith("STEERWISE_SECRET:")
