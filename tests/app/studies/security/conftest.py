"""An installation to be attacked, made once for all tests of a module."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.settings import Settings
from app.studies.security.lab import Lab, lab


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder: Path = tmp_path_factory.mktemp("lab")
    with lab(folder, Settings(home=folder / "unused")) as made:
        yield made
