"""Asking again until something has ended there. What is asked for goes on without us, so a break is no failure."""

import time
from collections.abc import Callable

from app.cli.client.api import Api, Json, pause_s
from app.cli.client.refusal import ApiAway, ApiRefused

EVERY_S = 1.0
GIVE_UP_S = 300.0  # without an answer


def until(
    api: Api, path: str, ended: Callable[[Json], bool], seen: Callable[[Json], None], **query: str
) -> Json:
    """seen: gets every state. Raises: ApiRefused, ApiAway after five minutes without an answer."""
    heard_at, tried = time.monotonic(), 0
    while True:
        try:
            found = api.get(path, **query)
        except (ApiAway, ApiRefused) as error:
            away = isinstance(error, ApiAway) or error.status >= 500
            if not away or time.monotonic() - heard_at > GIVE_UP_S:
                raise
            tried += 1
            time.sleep(pause_s(error, tried))
            continue
        heard_at, tried = time.monotonic(), 0
        seen(found)
        if ended(found):
            return found
        time.sleep(EVERY_S)
