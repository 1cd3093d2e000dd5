"""The base model on disk, and the answer codes that its tokenizer allows.

The base that ships is built by the first command that needs it, once, in seconds; every other command that comes
meanwhile waits for it.
"""

import fcntl
import functools
import hashlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from tokenizers import Tokenizer

import app
from app.errors import InputError
from app.settings import load_settings
from evaluation.contract.render import CodesError
from evaluation.contract.schema import CategorySchema
from evaluation.predictor import Codes, load_codes
from training.base import package

SHIPPED: Final = package.NAME
STARTER: Final = "starter"  # tiny, and of use in tests alone


class Base(NamedTuple):
    name: str
    folder: Path


def find_base(name: str, home: Path | None = None, told: Callable[[str], None] = lambda _line: None) -> Base:
    """The base that ships, `starter`, a folder, or a Hugging Face name (downloaded where that is allowed).

    home: below which the base that ships is kept; the environment's where it is not said. told: what is being done,
    where that base has to be built first. Raises: InputError.
    """
    if name == SHIPPED:
        built = _shipped(home or load_settings().home, told)
        return Base(name, _complete(built, "delete that folder and try again"))
    if name == STARTER:
        return Base(name, _complete(_starter_folder(), "reinstall the project or train it: training/starter"))
    if Path(name).is_dir():
        folder = _complete(Path(name).resolve(), "name the folder that holds the model")
        return Base(str(folder), folder)
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise InputError(
            f"there is no base model {name!r}: neither `{SHIPPED}`, nor a folder, nor owner/name"
        )
    return Base(
        name, _complete(_from_hub(name), "choose a model with safetensors weights and a tokenizer.json")
    )


def codes_for(folder: Path, schema: CategorySchema, *others: CategorySchema) -> Codes:
    """One for each answer of any of them, and those that an edit may add: another category, and none of these.

    Raises: InputError.
    """
    try:
        return load_codes(folder, max(len(one.keys) for one in (schema, *others)) + 2)
    except CodesError as error:
        raise InputError(str(error)) from None


def token_counter(folder: Path) -> Callable[[list[str]], list[int]]:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def count(texts: list[str]) -> list[int]:
        return [len(encoding.ids) for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]

    return count


def digest(base: Base) -> str:
    """Changes whenever the model does. Of the base that ships it is the same on every machine."""
    known = package.identity_of(base.folder)
    if known is not None:
        return known
    files = sorted(path for path in base.folder.iterdir() if path.is_file())
    stats = [path.stat() for path in files]
    return _content_digest(
        tuple((str(p), s.st_size, s.st_mtime_ns) for p, s in zip(files, stats, strict=True))
    )


@functools.lru_cache(maxsize=16)
def _content_digest(files: tuple[tuple[str, int, int], ...]) -> str:
    """Over the names and the whole contents. Sizes and times are only there so that it is counted once."""
    total = hashlib.sha256()
    for path, size, _ in files:
        with Path(path).open("rb") as file:
            total.update(f"{Path(path).name}\0{size}\0".encode())
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def _shipped(home: Path, told: Callable[[str], None]) -> Path:
    try:
        identity = package.identity()
        folder = home / "bases" / f"{SHIPPED}-{identity[:12]}"
        if package.identity_of(folder) == identity:
            return folder
        package.weights_file()
        with _alone(home / "bases", told):
            if package.identity_of(folder) != identity:
                told(f"building the base {SHIPPED} in {folder}, once")
                _build(folder, told)
    except package.PackageMissing as error:
        raise InputError(str(error)) from None
    except OSError as error:
        raise InputError(f"the base cannot be kept below {home}: {error.strerror}") from None
    return folder


@contextmanager
def _alone(folder: Path, told: Callable[[str], None]) -> Iterator[None]:
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            told("waiting for another command that builds the base")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(folder: Path, told: Callable[[str], None]) -> None:
    """In a process of its own: it needs torch, which nothing here does. Raises: InputError."""
    root = str(Path(next(iter(app.__path__))).parent)
    paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    argv = [sys.executable, "-m", "training.base.build", "--out", str(folder)]
    child = subprocess.Popen(
        argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    said, complaint = child.communicate()
    for line in filter(None, said.split("\n")):
        told(line)
    if child.returncode == 0:
        return
    if "No module named" in complaint:
        raise InputError(
            f"the base {SHIPPED} is not built yet, and this installation has no torch to build it with; start it where "
            "the models run first, with the same STEERWISE_HOME, or set STEERWISE_BASE to a folder"
        )
    raise InputError(f"the base {SHIPPED} could not be built", complaint.strip().split("\n")[-3:])


def _starter_folder() -> Path:
    spec = importlib.util.find_spec("training.starter")
    if spec is None or not spec.submodule_search_locations:
        raise InputError("the package training.starter is not installed")
    return Path(next(iter(spec.submodule_search_locations))) / "weights"


def _complete(folder: Path, advice: str) -> Path:
    missing = [name for name in ("config.json", "tokenizer.json") if not (folder / name).is_file()]
    if not any(folder.glob("*.safetensors")):
        missing.append("*.safetensors")
    if missing:
        raise InputError(f"the base model in {folder} has no {', '.join(missing)}; {advice}")
    return folder


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.jinja", "*.txt"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"the base model {name!r} could not be had: {reason}") from None
