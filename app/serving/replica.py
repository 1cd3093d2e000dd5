"""One vLLM that somebody else started: asked what it has, given adapters, and let alone for a while where it fails.

Whether it is well is told by the outcomes of what it is asked: one that does not answer, or answers several times in a
row that something went wrong there, is asked less and less often, by one request at a time, until one succeeds.
"""

import time
from pathlib import Path
from typing import Any

import httpx

from app.errors import AdapterRefused, ServingAway, ServingError, ServingFull
from app.serving import adapters
from app.serving.fetching import stored_at
from app.serving.vllm import BASE_NAME, endpoint_at
from app.settings import Settings
from evaluation.inference.http import RETRIED_STATUS
from evaluation.inference.predictor import PredictorError

ALONE_S = 1.0  # so long nobody is sent where nobody was answered
MAX_ALONE_S = 5.0  # however often
SICK_AFTER = 3  # answers in a row that something went wrong there: one may be the question's fault
_CONTROL_TIMEOUT_S = 15
_LOAD_TIMEOUT_S = 120
_BROKEN = 500


class Replica:
    """busy: how many requests of this process it is answering. trying: how many of them were begun to see whether it is
    well again.
    """

    def __init__(self, url: str, settings: Settings):
        self.endpoint = endpoint_at(url)
        self.client = self.endpoint.async_client()
        self.busy = self.trying = 0
        self._settings = settings
        self._away_until = 0.0
        self._sick_until = 0.0
        self._unanswered = 0  # in a row, as are the next
        self._broken = 0
        self._lacks_until: dict[str, float] = {}

    @property
    def url(self) -> str:
        return self.endpoint.url

    # ------------------------------------------------------------------------------------------------- what it has

    async def adapters(self) -> list[str]:
        """Names, in the order in which they were loaded. Raises: ServingAway, ServingError."""
        response = await self._send("GET", "/v1/models", _CONTROL_TIMEOUT_S)
        try:
            entries = response.raise_for_status().json()["data"]
            return [entry["id"] for entry in entries if entry["id"] != BASE_NAME]
        except (httpx.HTTPStatusError, ValueError, KeyError, TypeError) as error:
            raise ServingError(f"{self.url} does not list its models as vLLM does: {error!r}") from error

    async def healthy(self) -> bool:
        try:
            return (await self._send("GET", "/health", _CONTROL_TIMEOUT_S)).status_code == 200
        except ServingAway:
            return False

    async def load(self, folder: Path, name: str, key: str | None = None) -> None:
        """folder: of the adapter whose content `name` is the SHA-256 of, at a path that vLLM can read, for good. key:
        of the same in the storage, from where vLLM takes it if the settings say so.

        Harmless where it is there already. Raises: AdapterRefused, ServingAway, ServingError, ServingFull.
        """
        checked = adapters.check(folder, self._settings.vllm_max_lora_rank)
        if checked.sha256 != name:
            raise AdapterRefused(f"the adapter in {folder} is not the one that it is named after")
        there = await self.adapters()
        if name not in there:
            # More of them than slots, and each request of one evicts another.
            if len(there) >= self._settings.vllm_max_adapters:
                raise ServingFull(f"a model server has all the {len(there)} adapters that it may have")
            stored = None if key is None or not self._settings.vllm_fetches_adapters else stored_at(key)
            await self._load(stored or str(folder.resolve()), name)
        self._lacks_until.pop(name, None)

    async def _load(self, path: str, name: str) -> None:
        body = {"lora_name": name, "lora_path": path}
        response = await self._send("POST", "/v1/load_lora_adapter", _LOAD_TIMEOUT_S, json=body)
        # Another process may have been faster: vLLM refuses a name that it has, and this one means this content.
        if response.status_code != 200 and name not in await self.adapters():
            raise AdapterRefused(f"vLLM refused the adapter {name}", [response.text[:500]])

    async def unload(self, name: str) -> None:
        """Harmless where it is not there. Raises: ServingAway, ServingError."""
        body = {"lora_name": name}
        response = await self._send("POST", "/v1/unload_lora_adapter", _CONTROL_TIMEOUT_S, json=body)
        if response.status_code not in (200, 404) and name in await self.adapters():
            raise ServingError(f"{self.url} could not unload {name}", [response.text[:500]])

    async def _send(self, method: str, route: str, timeout_s: float, **body: Any) -> httpx.Response:
        try:
            response = await self.client.request(method, route, timeout=timeout_s, **body)
        except httpx.TransportError as error:
            self.leave_alone()
            raise ServingAway("a model server does not answer") from error
        if response.status_code in RETRIED_STATUS:
            raise ServingAway("a model server is overloaded")
        if response.status_code >= _BROKEN:
            raise ServingAway(f"a model server answered {response.status_code}: it is not well")
        return response

    # ------------------------------------------------------------------------------------------- whom to send there

    def leave_alone(self) -> None:
        self._away_until = max(self._away_until, time.monotonic() + ALONE_S)

    def answered(self) -> None:
        self._unanswered = self._broken = 0
        self._away_until = self._sick_until = 0.0

    @property
    def sick(self) -> bool:
        """It answers, but not what it was asked for; another one is better, if there is one."""
        tried_now = self._broken >= SICK_AFTER and self.trying > 0
        return tried_now or time.monotonic() < self._sick_until

    @property
    def unwell(self) -> bool:
        """The outcome of what it was asked last was bad, so what it is asked next is a try."""
        return self._unanswered > 0 or self._broken >= SICK_AFTER

    def may_have(self, name: str) -> bool:
        """Nothing says that it would not answer for this model now."""
        now = time.monotonic()
        tried_now = self._unanswered > 0 and self.trying > 0
        return not tried_now and now >= self._away_until and now >= self._lacks_until.get(name, 0.0)

    def is_to_blame(self, error: PredictorError, name: str) -> bool:
        """Whether another replica may do better, or this one a little later. Remembered for a moment."""
        match error.status:
            case None:
                self._unanswered += 1
                self._away_until = time.monotonic() + _alone_s(self._unanswered)
            case 404:
                self._lacks_until[name] = time.monotonic() + ALONE_S
            case status if status in RETRIED_STATUS:
                pass
            case status if status >= _BROKEN:
                self._broken += 1
                if self._broken >= SICK_AFTER:
                    self._sick_until = time.monotonic() + _alone_s(self._broken - SICK_AFTER + 1)
            case _:
                self.answered()
                return False
        return True


def is_broken(error: BaseException | None) -> bool:
    """The server says that something went wrong there, which the question may have caused, or may not."""
    if not isinstance(error, PredictorError):
        return False
    return error.status is not None and error.status >= _BROKEN and error.status not in RETRIED_STATUS


def _alone_s(times: int) -> float:
    return float(min(ALONE_S * 2 ** min(times - 1, 10), MAX_ALONE_S))
