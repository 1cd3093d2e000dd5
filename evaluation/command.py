"""What the commands of this package read alike from their command lines."""

import os
from pathlib import Path


class InputError(ValueError):
    """What was given on the command line cannot be used."""


def api_key(variable: str | None) -> str | None:
    """variable: of the environment. Raises: InputError where one is named and has nothing in it."""
    key = os.environ.get(variable) if variable else None
    if variable and not key:
        raise InputError(f"the environment variable {variable} is empty; put the key into it")
    return key


def check_out(path: Path) -> None:
    """Before anybody is asked, whose answers would be lost. Raises: InputError."""
    if path.is_dir() or not path.resolve().parent.is_dir():
        raise InputError(f"--out {path}: name a file in a folder that exists")
