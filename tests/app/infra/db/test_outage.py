"""What passes by itself is waited for; what somebody has to mend is not."""

import asyncpg
import pytest

from app.infra.db.outage import is_away


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (asyncpg.CannotConnectNowError("the database system is starting up"), True),
        (asyncpg.TooManyConnectionsError("sorry, too many clients already"), True),
        (ConnectionRefusedError(), True),
        (asyncpg.InvalidPasswordError("wrong password"), False),
        (asyncpg.InvalidCatalogNameError("no such database"), False),
        (ValueError("a mistake of ours"), False),
    ],
)
def test_a_server_that_starts_is_away_and_one_that_does_not_know_us_is_not(
    error: Exception, away: bool
) -> None:
    assert is_away(error) is away
