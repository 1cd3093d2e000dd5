"""What the API refused, or that it did not answer, as a person at the command line hears it."""

from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from app.errors import AppError
from evaluation.inference.http import retry_after_s

_ADVICE = {
    "unauthorized": "give a key with --api-key or STEERWISE_API_KEY, or keep one with: steerwise login",
    "forbidden": "what this key may do: steerwise whoami",
    "not_found": "check the id; what belongs to another tenant is not found either (steerwise whoami)",
    "stale": "somebody else changed it: read it again, and repeat your change on what it is now",
    "gate_not_passed": "why it did not pass: steerwise gates show GATE",
    "nothing_deployed": "deploy a model for this schema first: steerwise deployments create GATE",
    "ungated_not_allowed": "let the base answer without a gate: steerwise tenants change TENANT --ungated api, or "
    "make a key with --scope playground",
    "schema_not_ready": "mend the draft: steerwise schemas edit SCHEMA",
    "dataset_has_content": "make another dataset for another file: steerwise datasets create",
}
_TENANT = "name the tenant with --tenant or STEERWISE_TENANT"


class ApiAway(AppError):
    """No answer, or a broken one."""

    code = "api_away"

    def __init__(self, url: str, error: Exception):
        super().__init__(
            f"no answer from {url}: {str(error) or type(error).__name__}",
            ["is it running? `steerwise serve` starts it; --url or STEERWISE_URL name another"],
        )


class ApiRefused(AppError):
    """code, status: the API's own. retry_after_s: where it named a time."""

    def __init__(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str]):
        self.status = status
        self.code = str(body.get("code") or f"http_{status}")
        self.exit_code = 2 if status < 500 else 1
        self.problem = dict(body)
        self.retry_after_s = retry_after_s(headers)
        super().__init__(str(body.get("detail") or f"the server answered {status}"), [*self._lines(body)])

    def _lines(self, body: Mapping[str, Any]) -> Iterator[str]:
        problems = body.get("problems") or []
        for problem in problems:
            yield ": ".join(filter(None, [problem.get("where"), problem.get("message")]))
        if any(problem.get("where") == "header.x-tenant" for problem in problems):
            yield _TENANT
        if self.code in _ADVICE:
            yield _ADVICE[self.code]
        if self.retry_after_s is not None:
            yield f"try again in {self.retry_after_s:.0f} s"
        yield f"(status {self.status}, {self.code}, request {body.get('request_id') or 'unknown'})"


def checked(response: httpx.Response) -> httpx.Response:
    """response: read, or a stream of which only a refusal is read here. Raises: ApiRefused."""
    if response.is_success:
        return response
    response.read()
    raise ApiRefused(response.status_code, _document(response), response.headers)


def _document(response: httpx.Response) -> dict[str, Any]:
    """Something between us and the API may have answered in its place, and not in JSON."""
    try:
        found = response.json()
    except ValueError:
        found = None
    if isinstance(found, dict) and "detail" in found:
        return found
    return {
        "detail": f"the server answered {response.status_code} {response.reason_phrase}, not as our API does"
    }
