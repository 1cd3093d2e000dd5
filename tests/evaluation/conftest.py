import pytest

from evaluation.inference import http


@pytest.fixture
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is away is asked again at once."""
    monkeypatch.setattr(http, "pause_s", lambda *_: 0.0)
