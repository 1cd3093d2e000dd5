"""The README's block for programs is run as it stands there, in a process of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.steerwise.conftest import Place

pytestmark = pytest.mark.seconds

ROOT = Path(__file__).parents[2]


def test_what_the_readme_shows_to_programs_happens(place: Place) -> None:
    (block,) = re.findall(
        r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    theirs = {"STEERWISE_URL": place.url, "STEERWISE_API_KEY": place.key, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", block], env=os.environ | theirs, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    answered, *streamed, last, judged = done.stdout.splitlines()
    assert answered.startswith("delivery ") and last == "delivery" and streamed
    assert judged == "True"
