import anyio
import pytest

from app.errors import IfMatchMissing, InvalidRequest, Stale
from app.http.preconditions import IfMatch, _optional, _required, etag


def parsed(header: str | None) -> IfMatch | None:
    return anyio.run(_optional, header)


@pytest.mark.parametrize(
    ("header", "matches"),
    [
        ('"7"', True),
        ('"6", "7"', True),
        ('"6","7","8"', True),
        ("*", True),
        (" * ", True),
        ('"6"', False),
        ('"77"', False),
    ],
)
def test_if_match_compares_strongly(header: str, matches: bool) -> None:
    asked = parsed(header)
    assert asked is not None
    if matches:
        asked.check(7)
    else:
        with pytest.raises(Stale, match='"7"'):
            asked.check(7)


@pytest.mark.parametrize("header", ['W/"7"', "7", "", "'7'", '*, "7"', '"7" "8"', '"7'])
def test_what_cannot_be_read_is_said_to_be_so(header: str) -> None:
    with pytest.raises(InvalidRequest, match="quotation marks"):
        parsed(header)


def test_a_change_without_if_match_is_refused() -> None:
    assert parsed(None) is None
    with pytest.raises(IfMatchMissing):
        anyio.run(_required, None)


def test_an_etag_is_quoted() -> None:
    assert etag(7) == '"7"'
