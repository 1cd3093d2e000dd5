"""What can go wrong. Every error of the clients is a `SteerwiseError`."""

import json
from collections.abc import Mapping
from typing import Any

from evaluation.inference.http import retry_after_s


class SteerwiseError(Exception):
    """Something did not work."""


class Unreachable(SteerwiseError):
    """No answer came, however often it was tried."""


class TookTooLong(SteerwiseError):
    """What was waited for has not ended in the time that was given. It goes on by itself."""


class ApiError(SteerwiseError):
    """The API refused, or something of it is down.

    code: a word for programs. problems: what to mend, field by field. retry_after_s: when to come back, if it says.
    """

    def __init__(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str]):
        self.status = status
        self.code = str(body.get("code") or f"http_{status}")
        self.detail = str(body.get("detail") or f"the server answered {status}, not as Steerwise does")
        self.problems: list[dict[str, Any]] = list(body.get("problems") or ())
        self.request_id = body.get("request_id")
        self.retry_after_s = retry_after_s(headers)
        super().__init__(f"{self.detail} ({status}, {self.code})")


def refusal(status: int, content: bytes, headers: Mapping[str, str]) -> ApiError:
    """Something between us and the API may have answered in its place, and not in JSON."""
    try:
        body = json.loads(content)
    except ValueError:
        body = {}
    return ApiError(status, body if isinstance(body, dict) else {}, headers)
