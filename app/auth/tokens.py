"""Tokens of the OIDC issuer: JSON Web Tokens, signed by one of its keys, for us, and for now.

Nothing that a token says of itself is followed: not the address of a key (`jku`, `x5u`), nor a key that it brings
(`jwk`, `x5c`). Its `alg` must be one of the settings' and fit the key that its `kid` names among the issuer's.
"""

import time
from collections.abc import Mapping
from typing import Any

import httpx
import jwt

from app.auth.issuer_keys import IssuerKey, IssuerKeys
from app.auth.service import NOT_VALID, RefusedKey
from app.settings import OidcIssuer

MAX_CHARS = 8192
_MAX_KEY_ID = 256
_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
_REQUIRED = ["iss", "aud", "sub", "iat", "exp"]
_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (jwt.InvalidSignatureError, "token_signature"),
    (jwt.ImmatureSignatureError, "token_not_yet_valid"),
    (jwt.InvalidIssuerError, "token_issuer"),
    (jwt.InvalidAudienceError, "token_audience"),
    (jwt.MissingRequiredClaimError, "token_claims"),
)


def is_token(text: str) -> bool:
    """A key of ours has no full stop, a signed token two."""
    return text.count(".") == 2


class PersonTokens:
    def __init__(self, oidc: OidcIssuer, http: httpx.AsyncClient):
        self.oidc = oidc
        self._keys = IssuerKeys(oidc, http)

    async def close(self) -> None:
        await self._keys.close()

    async def verify(self, text: str) -> Mapping[str, Any]:
        """Its claims. Raises: RefusedKey, Unavailable. Why is said only to one whose token the issuer has signed."""
        header = _header(text)
        algorithm = str(header.get("alg"))
        if algorithm not in self.oidc.algorithms:
            raise RefusedKey(NOT_VALID, "token_algorithm")
        key_id = header.get("kid")
        if not isinstance(key_id, str) or not 0 < len(key_id) <= _MAX_KEY_ID:
            raise RefusedKey(NOT_VALID, "token_key")
        key = await self._keys.find(key_id)
        if key is None or algorithm not in key.algorithms:
            raise RefusedKey(NOT_VALID, "token_key")
        claims = self._claims(text, key, algorithm)
        if float(claims["iat"]) + self.oidc.token_max_s + self.oidc.clock_skew_s < time.time():
            hours = self.oidc.token_max_s / 3600
            raise RefusedKey(
                f"this token was issued more than {hours:g} h ago; sign in again", "token_expired"
            )
        return claims

    def _claims(self, text: str, key: IssuerKey, algorithm: str) -> Mapping[str, Any]:
        try:
            return jwt.decode(
                text,
                key.public,
                algorithms=[algorithm],
                audience=self.oidc.audience,
                issuer=self.oidc.issuer,
                leeway=self.oidc.clock_skew_s,
                options={"require": _REQUIRED},
            )
        except jwt.ExpiredSignatureError:
            raise RefusedKey("this token has expired; sign in again", "token_expired") from None
        # OverflowError: a time that is endless.
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            reason = next((name for kind, name in _REASONS if isinstance(error, kind)), "token_claims")
            raise RefusedKey(NOT_VALID, reason) from None


def _header(text: str) -> Mapping[str, Any]:
    """Not verified yet. Raises: RefusedKey."""
    if len(text) > MAX_CHARS:
        raise RefusedKey(NOT_VALID, "token_too_long")
    try:
        header = jwt.get_unverified_header(text)
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise RefusedKey(NOT_VALID, "token_malformed") from None
    # Tokens of other kinds (of a logout, say) are signed with the same keys, and say so in `typ`.
    if "crit" in header or str(header.get("typ", "JWT")).lower() not in _TYPES:
        raise RefusedKey(NOT_VALID, "token_type")
    return header
