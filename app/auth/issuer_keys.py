"""The OIDC issuer's public keys: fetched, kept, and fetched again when they have aged or a token names an unknown one.

What a stranger's token names makes us ask the issuer once in RETRY_S at most. While the issuer is away, the keys that
are known go on for KEEP_S.
"""

import asyncio
import json
from collections.abc import Iterator, Mapping
from time import monotonic
from typing import Any, NamedTuple

import httpx
import jwt
import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import AllowedPublicKeys

from app.errors import Unavailable
from app.settings import OidcIssuer

REFRESH_S = 300.0  # a key that the issuer withdraws is refused after so long
RETRY_S = 30.0
RETRY_WITHOUT_KEYS_S = 2.0
KEEP_S = 86_400.0
TIMEOUT_S = 5.0
MAX_BYTES = 256 << 10
MAX_KEYS = 64
MIN_RSA_BITS = 2048
_DISCOVERY = "/.well-known/openid-configuration"
_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
# By kind and curve of a key: what it may verify.
_FITTING = {
    ("RSA", None): _RSA,
    ("EC", "P-256"): frozenset({"ES256"}),
    ("EC", "P-384"): frozenset({"ES384"}),
    ("EC", "P-521"): frozenset({"ES512"}),
    ("OKP", "Ed25519"): frozenset({"EdDSA"}),
}
log = structlog.get_logger()


class IssuerMisfit(Exception):
    """What the issuer's address answers is not what an issuer answers."""


class IssuerKey(NamedTuple):
    """algorithms: that this key may verify, of those that the settings name."""

    public: AllowedPublicKeys
    algorithms: frozenset[str]


class IssuerKeys:
    def __init__(self, oidc: OidcIssuer, http: httpx.AsyncClient):
        self._oidc, self._http = oidc, http
        self._keys: dict[str, IssuerKey] = {}
        self._fetched_at = self._not_before = float("-inf")
        self._fetching: asyncio.Task[None] | None = None

    async def find(self, key_id: str) -> IssuerKey | None:
        """Raises: Unavailable where no keys are known, or only such as may have been withdrawn long ago."""
        if not self._good():
            await self._fetched()
            if not self._good():
                raise Unavailable("who vouches for people (STEERWISE_OIDC) cannot be reached now; try again")
        elif key_id not in self._keys:
            await self._fetched()
        elif monotonic() >= self._fetched_at + REFRESH_S:
            self._begin()  # nobody waits for it
        return self._keys.get(key_id)

    async def close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)
        await self._http.aclose()

    def _good(self) -> bool:
        return monotonic() < self._fetched_at + KEEP_S

    async def _fetched(self) -> None:
        self._begin()
        if self._fetching is not None:
            await asyncio.shield(
                self._fetching
            )  # that one of those who wait goes away is not the others' loss

    def _begin(self) -> None:
        now = monotonic()
        if self._fetching is not None or now < self._not_before:
            return
        self._not_before = now + (RETRY_S if self._good() else RETRY_WITHOUT_KEYS_S)
        self._fetching = asyncio.create_task(self._fetch())

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(2 * TIMEOUT_S):
                url = self._oidc.jwks_url or await self._discovered()
                self._keys = _usable(await self._get(url), frozenset(self._oidc.algorithms))
            self._fetched_at = monotonic()
        except (httpx.HTTPError, httpx.InvalidURL, IssuerMisfit, TimeoutError) as error:
            log.warning("issuer_keys_not_fetched", error=repr(error), known=len(self._keys))
        finally:
            self._fetching = None

    async def _discovered(self) -> str:
        found = await self._get(self._oidc.issuer.rstrip("/") + _DISCOVERY)
        if found.get("issuer") != self._oidc.issuer:
            raise IssuerMisfit(f"the issuer calls itself {str(found.get('issuer'))[:200]!r}")
        url = found.get("jwks_uri")
        # http:// only where the settings allow it for the issuer itself: on this machine.
        if not isinstance(url, str) or not url.startswith(("https://", _origin(self._oidc.issuer))):
            raise IssuerMisfit(f"the issuer's keys are at {str(url)[:200]!r}, which is not https://")
        return url

    async def _get(self, url: str) -> Mapping[str, Any]:
        body = b""
        asking = self._http.stream("GET", url, follow_redirects=False, timeout=TIMEOUT_S)
        async with asking as response:
            if response.status_code != 200:
                raise IssuerMisfit(f"{url} answers {response.status_code}")
            async for block in response.aiter_bytes():
                body += block
                if len(body) > MAX_BYTES:
                    raise IssuerMisfit(f"{url} answers with more than {MAX_BYTES} bytes")
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            raise IssuerMisfit(f"{url} answers something else than JSON") from None
        if not isinstance(found, dict):
            raise IssuerMisfit(f"{url} answers something else than a JSON object")
        return found


def _origin(url: str) -> str:
    parts = httpx.URL(url)
    return f"{parts.scheme}://{parts.netloc.decode()}/"


def _usable(document: Mapping[str, Any], allowed: frozenset[str]) -> dict[str, IssuerKey]:
    """By id; of two with one id the first. Raises: IssuerMisfit."""
    listed = document.get("keys")
    if not isinstance(listed, list):
        raise IssuerMisfit("the issuer's keys are no list")
    found: dict[str, IssuerKey] = {}
    for key_id, key in _read(listed[:MAX_KEYS], allowed):
        found.setdefault(key_id, key)
    return found


def _read(listed: list[Any], allowed: frozenset[str]) -> Iterator[tuple[str, IssuerKey]]:
    for one in listed:
        key_id = one.get("kid") if isinstance(one, dict) else None
        algorithms = _algorithms(one) & allowed if isinstance(key_id, str) else frozenset()
        if not algorithms:
            continue
        try:
            public = jwt.get_algorithm_by_name(min(algorithms)).from_jwk(one)
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            log.warning("issuer_key_not_read", key_id=str(key_id)[:200], error=repr(error))
            continue
        if isinstance(public, RSAPublicKey) and public.key_size < MIN_RSA_BITS:
            log.warning("issuer_key_too_short", key_id=str(key_id)[:200], bits=public.key_size)
            continue
        yield str(key_id), IssuerKey(public, algorithms)


def _algorithms(key: Mapping[str, Any]) -> frozenset[str]:
    """What it may verify; nothing where it is no public key, or is for something else than signatures."""
    if "d" in key or "k" in key or key.get("use", "sig") != "sig":
        return frozenset()
    if "verify" not in key.get("key_ops", ["verify"]):
        return frozenset()
    kind, curve = key.get("kty"), key.get("crv")
    fitting = _FITTING.get((str(kind), None if kind == "RSA" else str(curve)), frozenset())
    return fitting & {str(key["alg"])} if "alg" in key else fitting
