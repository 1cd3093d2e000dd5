"""An OIDC issuer for tests: an ASGI app with a page about itself and its public keys, and what signs for it."""

import json
import time
from collections.abc import Mapping
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from jwt.algorithms import RSAAlgorithm
from starlette.types import Receive, Scope, Send

ISSUER = "https://issuer.test/realm"
AUDIENCE = "steerwise"


@cache
def private_key(number: int = 1, bits: int = 2048) -> RSAPrivateKey:
    """Made once for all tests: it takes a tenth of a second."""
    return generate_private_key(public_exponent=65537, key_size=bits)


def public_jwk(key: RSAPrivateKey, key_id: str, **more: Any) -> dict[str, Any]:
    return {**RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": key_id, "use": "sig", **more}


class FakeIssuer:
    """away: it answers nobody. keys: what it publishes. asked: at which paths, in order."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = [public_jwk(private_key(), "one")]
        self.page: dict[str, Any] = {}
        self.is_at("https://issuer.test")
        self.away = False
        self.asked: list[str] = []

    def is_at(self, url: str) -> None:
        self.page = {"issuer": f"{url}/realm", "jwks_uri": f"{url}/realm/keys"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked.append(scope["path"])
        found: Mapping[str, Any] | None = {
            "/realm/.well-known/openid-configuration": self.page,
            "/realm/keys": {"keys": self.keys},
        }.get(scope["path"])
        status = 503 if self.away else 404 if found is None else 200
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(found).encode()})


def claims(**changes: Any) -> dict[str, Any]:
    """Of a token that is good now. A change to None leaves the claim out."""
    now = int(time.time())
    given = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada-1", "iat": now, "exp": now + 600, "roles": ["staff"]}
    return {name: value for name, value in {**given, **changes}.items() if value is not None}


def signed(
    told: Mapping[str, Any],
    key_id: str | None = "one",
    key: Any = None,
    algorithm: str = "RS256",
    **headers: Any,
) -> str:
    named = {} if key_id is None else {"kid": key_id}
    return jwt.encode(dict(told), key or private_key(), algorithm, headers={**named, **headers})
