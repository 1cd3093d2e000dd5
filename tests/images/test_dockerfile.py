"""The Dockerfile, as far as it can be checked without Docker: linted, and what it copies and installs is there."""

import fnmatch
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.images.locks import FOLDER, IMAGES, ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()
HADOLINT = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")


def instructions() -> list[str]:
    whole = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    return [line for line in whole.splitlines() if line.strip()]


def linted(text: str) -> list[str]:
    if HADOLINT is None:
        pytest.skip("hadolint is not installed here (it comes with `make install` on Linux)")
    run = subprocess.run(
        [HADOLINT, "--no-color", "-"], input=text, capture_output=True, text=True, check=False
    )
    return run.stdout.splitlines()


def test_a_linter_finds_nothing_and_would_find_something() -> None:
    assert linted(DOCKERFILE) == []
    assert "DL3002" in linted(f"{DOCKERFILE}\nUSER root\n")[0]


def test_every_image_ends_as_a_user_without_rights_and_gets_no_secret() -> None:
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]
    named = {stage.splitlines()[0].split(" AS ")[1]: stage for stage in stages}
    for image in ("product", "models"):
        assert named[image].rstrip().endswith("USER 10001:10001"), (
            image
        )  # by number, as Kubernetes compares it
    assert not re.search(r"(PASSWORD|SECRET|TOKEN|API_KEY)", DOCKERFILE)


def test_everything_is_installed_from_a_lock_by_its_hashes_or_from_no_index() -> None:
    installed = [line for line in instructions() if "pip install" in line]
    assert len(installed) == 4
    for line in installed:
        assert ("--require-hashes --no-deps" in line) != ("--no-index --no-deps --no-build-isolation" in line)
    copied = re.findall(r"^COPY docker/requirements/(\S+) \.$", DOCKERFILE, flags=re.MULTILINE)
    assert copied == ["product.txt", "models-${EXTRA}.txt"]
    assert {path.name for path in FOLDER.iterdir()} == {f"{image.name}.txt" for image in IMAGES}


def context(target: Path) -> None:
    """What Docker would send, for the patterns that .dockerignore uses: a folder or a file, and one for any depth."""
    lines = (ROOT / ".dockerignore").read_text().split()
    anywhere = [line.removeprefix("**/") for line in lines if line.startswith("**/")]
    assert lines[0] == "*" and len(anywhere) + sum(line.startswith("!") for line in lines) == len(lines) - 1
    for kept in (line.removeprefix("!") for line in lines if line.startswith("!")):
        if (ROOT / kept).is_dir():
            shutil.copytree(ROOT / kept, target / kept, ignore=shutil.ignore_patterns(*anywhere))
        else:
            (target / kept).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / kept, target / kept)


@pytest.mark.slow
def test_what_docker_is_sent_builds_into_a_wheel_with_every_package(tmp_path: Path) -> None:
    """As the last step of both builds does it, without an index."""
    source = tmp_path / "source"
    context(source)
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
    ]
    subprocess.run([*build, "--wheel-dir", str(tmp_path), str(source)], check=True)
    [wheel] = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if not fnmatch.fnmatch(name, "*.dist-info/*")} == {
        "app", "training", "evaluation", "migrations", "steerwise"
    }  # fmt: skip
    assert any(name.endswith("licenses/LICENSE") for name in names)
