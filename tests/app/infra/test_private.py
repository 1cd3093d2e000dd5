"""What is kept here is open to nobody else on the machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.auth import bootstrap
from app.errors import InputError
from app.http.signing_secret import signing_secret
from app.infra.private import private_home
from app.local import home
from app.settings import Settings


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("open_mode", [0o755, 0o750, 0o701])
def test_a_home_that_is_open_to_others_is_refused_with_what_closes_it(tmp_path: Path, open_mode: int) -> None:
    place = tmp_path / "home"
    place.mkdir()
    place.chmod(open_mode)
    for use in (
        lambda: private_home(place),
        lambda: signing_secret(Settings(home=place)),
        lambda: bootstrap.run(Settings(home=place)),
        lambda: home.locked(place).__enter__(),
    ):
        with pytest.raises(InputError, match=f"chmod 700 {place}"):
            use()
    assert list(place.iterdir()) == []
    place.chmod(0o700)
    assert len(signing_secret(Settings(home=place))) >= 32


@pytest.mark.seconds
def test_what_the_command_line_makes_is_open_to_nobody_else(tmp_path: Path) -> None:
    place = tmp_path / "home"
    environment = {**os.environ, "STEERWISE_HOME": str(place)}
    command = [sys.executable, "-m", "app.cli.program", "admin", "bootstrap"]
    subprocess.run(command, env=environment, check=True, capture_output=True, umask=0o022)
    made = [place, *place.rglob("*")]
    assert place / "steerwise.db" in made
    assert {path for path in made if mode(path) & 0o077} == set()
