"""The secret that signs what clients hand back to us (cursors)."""

import os
import secrets

from app.errors import InputError
from app.infra.private import private_home
from app.settings import Settings

_FILE = "secret"


def signing_secret(settings: Settings) -> bytes:
    """From the settings, where several API processes must agree; else made once and kept in `home`."""
    if settings.secret is not None:
        return settings.secret.get_secret_value().encode()
    private_home(settings.home)
    path = settings.home / _FILE
    try:
        staged = settings.home / f".{_FILE}-{secrets.token_hex(6)}"
        with open(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123
            file.write(secrets.token_hex(32))
        try:
            os.link(
                staged, path
            )  # unlike a rename, it never replaces the secret of a process that was faster
        except FileExistsError:
            pass
        finally:
            staged.unlink()
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"the folder {settings.home} (STEERWISE_HOME) cannot be used: {error}") from None
