"""What this installation keeps is nobody else's on its machine: its folders, and every file that is made in them."""

import os
import stat
from pathlib import Path

from app.errors import InputError

UMASK = 0o077


def keep_files_private() -> None:
    """Of this process and those that it starts."""
    os.umask(UMASK)


def private_home(home: Path) -> None:
    """STEERWISE_HOME: made where it is not there, refused where others may look into it. Raises: InputError."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = stat.S_IMODE(home.stat().st_mode)
    except OSError as error:
        raise InputError(f"the folder {home} (STEERWISE_HOME) cannot be used: {error.strerror}") from None
    if mode & UMASK:
        raise InputError(
            f"the folder {home} (STEERWISE_HOME) is open to others (mode {mode:04o}), and it holds conversations and "
            f"secrets; close it with: chmod 700 {home}"
        )
