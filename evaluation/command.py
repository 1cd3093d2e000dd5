"""What the commands of this package read alike from their command lines."""

import argparse
import asyncio
import os
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, Final

import httpx

from evaluation.contract.chat import ChatFormError
from evaluation.contract.record import Conversation, Reject
from evaluation.contract.render import CodesError
from evaluation.contract.schema import SchemaError
from evaluation.contract.seeds import MAX_SEED
from evaluation.formats.incoming import Unreadable
from evaluation.formats.reader import Reader
from evaluation.terminal import complain, say

BAD_INPUT: Final = 2  # as an exit code


class CommandInputError(ValueError):
    """What was given on the command line cannot be used."""


_INPUT_ERRORS: Final = (CommandInputError, SchemaError, CodesError, ChatFormError, OSError, httpx.InvalidURL)


def exit_code(work: Coroutine[Any, Any, str], nothing_written: Mapping[type[Exception], int]) -> int:
    """Of a command that writes one file. work: it, and what is said when it is done. nothing_written: for each error
    under which the file is not written, the code."""
    try:
        sentence = asyncio.run(work)
    except _INPUT_ERRORS as error:
        complain(f"error: {error}")
        return BAD_INPUT
    except tuple(nothing_written) as error:
        complain(f"nothing written: {error}")
        return next(code for kind, code in nothing_written.items() if isinstance(error, kind))
    say(sentence)
    return 0


def api_key(variable: str | None) -> str | None:
    """variable: of the environment. Raises: InputError where one is named and has nothing in it."""
    key = os.environ.get(variable) if variable else None
    if variable and not key:
        raise CommandInputError(f"the environment variable {variable} is empty; put the key into it")
    return key


def check_out(path: Path, option: str = "--out") -> None:
    """Before anybody is asked, whose answers would be lost. Raises: InputError."""
    if path.is_dir() or not path.resolve().parent.is_dir():
        raise CommandInputError(f"{option} {path}: name a file in a folder that exists")


def read_conversations(reader: Reader, path: Path, *, rejects: bool = False) -> list[Conversation]:
    """rejects: rows that cannot be used are said on standard error and left out; otherwise they end it.

    Raises: InputError.
    """
    try:
        read = list(reader)
    except Unreadable as error:
        raise CommandInputError(f"{path} {error}") from None
    refused = sorted(one for one in read if isinstance(one, Reject))
    if refused and not rejects:
        line, reason = refused[0]
        raise CommandInputError(f"{path}: {len(refused)} rows cannot be used; line {line}: {reason}")
    if refused:
        complain(f"{len(refused)} rows left out; line {refused[0].line}: {refused[0].reason}")
    for sentence in reader.unread.sentences():
        complain(f"{path.name}: {sentence}")
    return [one for one in read if isinstance(one, Conversation)]


def seed(text: str) -> int:
    """Raises: ValueError, of which argparse makes a sentence."""
    found = int(text)
    if not 0 <= found <= MAX_SEED:
        raise argparse.ArgumentTypeError(f"a seed is a number from 0 to {MAX_SEED}")
    return found
