"""Which installation is asked, and with which key: options, then the environment, then a file of profiles."""

import os
import tomllib
from pathlib import Path
from typing import NamedTuple

from app.errors import InputError
from evaluation.atomic_files import whole

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_PROFILE = "default"
_FIELDS = ("url", "api_key", "tenant")


class Target(NamedTuple):
    """tenant: id or name; only admins of the platform need one. api_key: None where nobody gave one."""

    url: str
    api_key: str | None
    tenant: str | None


def find(url: str | None, api_key: str | None, tenant: str | None, profile: str | None) -> Target:
    """Each argument: as the option or the environment gives it. Raises: InputError."""
    kept = _read(profile)
    return Target(
        url or kept.get("url") or DEFAULT_URL, api_key or kept.get("api_key"), tenant or kept.get("tenant")
    )


def config_file() -> Path:
    folder = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(folder) / "steerwise" / "config.toml"


def save(profile: str | None, target: Target) -> Path:
    """Replaces that profile and keeps the others. The file holds keys: nobody else may read it."""
    path = config_file()
    profiles = _profiles(path) if path.is_file() else {}
    given = {name: value for name, value in target._asdict().items() if value is not None}
    profiles[profile or DEFAULT_PROFILE] = given
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with whole(path, mode=0o600) as sink:
        sink.write("\n".join(_section(name, values) for name, values in profiles.items()).encode())
    return path


def _read(profile: str | None) -> dict[str, str]:
    path = config_file()
    profiles = _profiles(path) if path.is_file() else {}
    if profile is not None and profile not in profiles:
        known = ", ".join(profiles) or "none"
        raise InputError(
            f"{path} has no profile {profile!r} (there are: {known}); make it with steerwise login"
        )
    return profiles.get(profile or DEFAULT_PROFILE, {})


def _profiles(path: Path) -> dict[str, dict[str, str]]:
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    for name, values in found.items():
        if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
            raise InputError(f"{path}: [{name}] must hold texts: {', '.join(_FIELDS)}")
        if unknown := set(values) - set(_FIELDS):
            raise InputError(
                f"{path}: [{name}] has {', '.join(sorted(unknown))}; it may have {', '.join(_FIELDS)}"
            )
    return found


def _section(name: str, values: dict[str, str]) -> str:
    return (
        "\n".join([f"[{_quoted(name)}]", *(f"{key} = {_quoted(value)}" for key, value in values.items())])
        + "\n"
    )


def _quoted(text: str) -> str:
    """A basic string of TOML. Control characters stand in no key, URL or name."""
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise InputError("a control character cannot be kept in the configuration file")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
