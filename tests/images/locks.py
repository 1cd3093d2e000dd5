"""`python -m tests.images.locks`: writes docker/requirements, which say what the images install, file by file.

pyproject.toml says what is wanted; a lock says which version of it and of all that it needs, with the hashes of every
file of that version. Versions that a lock has already, or (of a new one) that are installed here, are kept where they
still fit (`--upgrade`: not). The index is that of the environment (UV_DEFAULT_INDEX, UV_FIND_LINKS), and no address of
one is written down.
"""

import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
UV = str(Path(sys.executable).with_name("uv"))  # of this environment, active or not
FOLDER = ROOT / "docker" / "requirements"
PYTHON, PLATFORM = "3.11", "x86_64-manylinux_2_28"  # of the images
# vLLM for the CPU asks for them and gets builds for CUDA, without which `import transformers` dies (Makefile).
_CUDA_BUILDS = ("torchvision", "torchaudio", "torchcodec", "triton")
_HEAD = "# Written by `make locks` from pyproject.toml, for Python {python} on {platform}.\n"


class Image(NamedTuple):
    """extras: of pyproject.toml. left_out: what is not installed although something asks for it."""

    name: str
    extras: tuple[str, ...]
    on_cpu: bool = False
    left_out: tuple[str, ...] = ()

    @property
    def lock(self) -> Path:
        return FOLDER / f"{self.name}.txt"

    @property
    def has_weights(self) -> bool:
        return self.name.startswith("models")

    @property
    def groups(self) -> tuple[str, ...]:
        """Of dependency groups: packages that are installed without what they ask for."""
        return ("weights", "encoder") if self.has_weights else ("encoder",)


IMAGES = (
    Image("product", ("s3",)),
    Image("models-cpu", ("cpu", "s3"), on_cpu=True, left_out=_CUDA_BUILDS),
    Image("models-gpu", ("gpu", "s3")),
)


class Locked(NamedTuple):
    name: str
    version: str
    hashes: tuple[str, ...]


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def wanted(image: Image) -> Iterator[Requirement]:
    """What pyproject.toml asks of an image: the product's own, its extras', what builds it, and the weights."""
    found = project()
    extras: dict[str, list[str]] = found["project"]["optional-dependencies"]
    waiting = [*found["project"]["dependencies"], *found["build-system"]["requires"]]
    waiting += [f"steerwise[{','.join(image.extras)}]"]
    waiting += carried(image)
    while waiting:
        one = Requirement(waiting.pop())
        if one.name == "steerwise":
            waiting += [asked for extra in one.extras for asked in extras[extra]]
        else:
            yield one


def carried(image: Image) -> list[str]:
    """The packages that carry weights, of which the image has use."""
    groups = project()["dependency-groups"]
    return [one for name in image.groups for one in groups[name]]


def read(lock: Path) -> list[Locked]:
    """Raises: ValueError where a line is something else than a version with its hashes."""
    found = []
    for line in lock.read_text().replace("\\\n", " ").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        pinned, *options = line.split()
        name, equal, version = pinned.partition("==")
        hashes = tuple(option.removeprefix("--hash=") for option in options)
        if not equal or not hashes or not all(one.startswith("sha256:") for one in hashes):
            raise ValueError(f"{lock.name}: {line[:100]!r} is no version with its hashes")
        found.append(Locked(canonicalize_name(name), version, hashes))
    return found


def write(image: Image, options: Sequence[str]) -> None:
    found = project()
    with tempfile.TemporaryDirectory() as folder:
        build, torch, weights = (Path(folder) / name for name in ("build.in", "torch.in", "weights.in"))
        build.write_text("\n".join(found["build-system"]["requires"]))
        extras = [word for extra in image.extras for word in ("--extra", extra)]
        left_out = [word for name in image.left_out for word in ("--no-emit-package", name)]
        if image.on_cpu:
            [pinned] = [str(one) for one in wanted(image) if one.name == "torch"]
            torch.write_text(f"{pinned}+cpu")
            left_out += ["--override", str(torch)]
        kept = Path(folder) / "kept.txt"
        kept.write_text(image.lock.read_text() if image.lock.exists() else _installed())
        asked = [str(ROOT / "pyproject.toml"), str(build), *extras, *left_out, *options]
        text = _resolved(asked, kept, image.on_cpu)
        weights.write_text("\n".join(carried(image)))
        text += _resolved([str(weights), "--no-deps"], Path(folder) / "weights.txt", image.on_cpu)
    FOLDER.mkdir(parents=True, exist_ok=True)
    image.lock.write_text(_HEAD.format(python=PYTHON, platform=PLATFORM) + text)


def _installed() -> str:
    return "\n".join(
        sorted(f"{one.name}=={one.version}" for one in distributions() if one.name != "steerwise")
    )


def _resolved(arguments: Sequence[str], output: Path, on_cpu: bool) -> str:
    """on_cpu: other folders than the index are asked too, where builds for the CPU lie; one would be taken elsewhere as
    well, as it counts as newer.
    """
    command = [
        UV, "pip", "compile", "--quiet", "--no-config", "--generate-hashes", "--no-header", "--no-annotate",
        "--no-emit-index-url", "--no-emit-find-links", "--index-strategy", "unsafe-best-match",
        "--python-version", PYTHON, "--python-platform", PLATFORM, "--output-file", str(output),
    ]  # fmt: skip
    elsewhere = () if on_cpu else ("UV_FIND_LINKS", "UV_INDEX")
    environment = {name: value for name, value in os.environ.items() if name not in elsewhere}
    subprocess.run([*command, *arguments], check=True, stdout=subprocess.DEVNULL, env=environment)
    return output.read_text()


if __name__ == "__main__":
    for one in IMAGES:
        write(one, sys.argv[1:])
        print(f"{one.lock.relative_to(ROOT)}: {len(read(one.lock))} packages")
