"""People with a token of the OIDC issuer: who comes in, as whom, for how long, and every forgery that does not."""

import asyncio
import base64
import json
import time
from collections.abc import Callable
from typing import Any, NoReturn
from uuid import uuid4

import anyio
import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from app.auth import issuer_keys
from app.auth.principal import KeyRole, Scope
from app.auth.service import RefusedKey
from app.auth.tokens import MAX_CHARS, PersonTokens
from app.erasure import repository as erasure
from app.errors import InputError, Unavailable
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.settings import OidcIssuer, load_settings
from tests.app.auth.operations import Operation, ask
from tests.app.auth.test_standing import Planted, never
from tests.callers import Callers
from tests.servers.issuer import AUDIENCE, ISSUER, FakeIssuer, claims, private_key, public_jwk, signed

pytestmark = pytest.mark.anyio
ROLES = {"staff": "reviewer", "owners": "editor", "heads": "admin", "bots": "client"}


def oidc(**changes: Any) -> OidcIssuer:
    return OidcIssuer(**{"issuer": ISSUER, "audience": AUDIENCE, "roles": ROLES, **changes})


@pytest.fixture
def issuer() -> FakeIssuer:
    return FakeIssuer()


def take_part(callers: Callers, issuer: FakeIssuer, **changes: Any) -> None:
    """From here on the API takes tokens of this issuer."""
    http = httpx.AsyncClient(transport=httpx.ASGITransport(issuer))
    callers.api.state.tokens = PersonTokens(oidc(**changes), http)


@pytest.fixture
def people(callers: Callers, issuer: FakeIssuer) -> Callers:
    take_part(callers, issuer)
    return callers


async def me(callers: Callers, token: str) -> httpx.Response:
    return await (await callers.with_key(token)).get("/v1/me")


def of(scope: TenantScope, **changes: Any) -> dict[str, Any]:
    return claims(tenant=str(scope.tenant_id), **changes)


async def test_a_person_comes_in_as_their_tenant_and_roles_say(people: Callers, scope: TenantScope) -> None:
    found = (await me(people, signed(of(scope)))).json()
    assert found["key"] is None and not found["platform_admin"] and found["tenant_name"] == "one"
    person = found["person"]
    assert (person["issuer"], person["subject"], person["name"]) == (ISSUER, "ada-1", None)
    assert set(person["scopes"]) == KeyRole.reviewer.scopes and person["tenant_id"] == str(scope.tenant_id)
    both = (await me(people, signed(of(scope, roles=["bots", "staff", "others"])))).json()["person"]
    assert set(both["scopes"]) == KeyRole.reviewer.scopes | KeyRole.client.scopes
    assert both["id"] == person["id"]


async def test_a_person_does_what_their_roles_allow_in_their_tenant_and_nothing_else(
    people: Callers, scope: TenantScope, other_scope: TenantScope
) -> None:
    reviewer = await people.with_key(signed(of(scope)))
    assert (await reviewer.get("/v1/schemas")).status_code == 200
    refused = await reviewer.post("/v1/schemas", json={"name": "a"})
    assert refused.status_code == 403 and "schemas:write" in refused.text
    elsewhere = await reviewer.get("/v1/schemas", headers={"X-Tenant": str(other_scope.tenant_id)})
    assert elsewhere.status_code == 404
    head = await people.with_key(signed(of(scope, roles="heads")))
    assert (await head.get("/v1/api-keys")).status_code == 200
    assert (await head.post("/v1/tenants", json={"name": "mine"})).status_code == 403
    nobody = await people.with_key(signed(of(scope, roles=["strangers"])))
    assert (await nobody.get("/v1/me")).json()["person"]["scopes"] == []
    assert (await nobody.get("/v1/schemas")).status_code == 403


async def test_a_word_of_the_issuers_means_nothing_that_the_settings_do_not_say(
    people: Callers, scope: TenantScope
) -> None:
    for roles in (["admin", "editor", "reviewer"], "not heads", {"heads": True}, [["heads"]], 7, None):
        found = (await me(people, signed(of(scope, roles=roles)))).json()["person"]
        assert found["scopes"] == [], roles


async def test_the_audit_trail_names_the_person(
    people: Callers, callers: Callers, scope: TenantScope
) -> None:
    editor = await people.with_key(signed(of(scope, roles=["owners"])))
    await editor.post("/v1/schemas", json={"name": "a"})
    admin = await callers.of(scope, Scope.admin)
    await admin.post("/v1/schemas", json={"name": "b"})
    by_key, by_person = (await admin.get("/v1/audit", params={"action": "schema.created"})).json()["items"]
    assert (by_person["person"], by_key["person"]) == ("ada-1", None)
    assert by_person["actor_key_id"] == (await editor.get("/v1/me")).json()["person"]["id"]


async def test_a_person_is_called_by_the_claim_that_the_settings_name(
    callers: Callers, issuer: FakeIssuer, scope: TenantScope
) -> None:
    take_part(
        callers, issuer, name_claim="email", roles_claim="/access/roles", tenants={"acme": scope.tenant_id}
    )
    told = claims(tenant="acme", email="ada@example.com", access={"roles": ["heads"]})
    ada = await callers.with_key(signed(told))
    await ada.post("/v1/schemas", json={"name": "a"})
    [made] = (await ada.get("/v1/audit", params={"action": "schema.created"})).json()["items"]
    assert made["person"] == "ada@example.com"
    renamed = await callers.with_key(signed(claims(**told | {"email": "ada@new.example"})))
    [made] = (await renamed.get("/v1/audit", params={"action": "schema.created"})).json()["items"]
    assert made["person"] == "ada@new.example"


async def test_who_names_no_tenant_of_ours_is_told_so(
    people: Callers, issuer: FakeIssuer, scope: TenantScope
) -> None:
    for tenant in (None, "acme", str(uuid4()), [str(scope.tenant_id)], ""):
        refused = await me(people, signed(claims(tenant=tenant)))
        assert refused.status_code == 401 and "tenant" in refused.json()["detail"], tenant
    take_part(people, issuer, tenants={"acme": scope.tenant_id})
    assert (await me(people, signed(of(scope)))).status_code == 401  # an id is no name that the settings know
    assert (await me(people, signed(claims(tenant="acme")))).status_code == 200
    async with transaction(people.database) as session:
        await erasure.bury(session, scope)
    assert (await me(people, signed(claims(tenant="acme")))).status_code == 401


async def test_a_person_makes_no_key_but_may_end_one(people: Callers, scope: TenantScope) -> None:
    admin = await people.of(scope, Scope.admin)
    made = (await admin.post("/v1/api-keys", json={"name": "a", "scopes": ["classify"]})).json()
    head = await people.with_key(signed(of(scope, roles=["heads"])))
    refused = await head.post("/v1/api-keys", json={"name": "b", "scopes": ["classify"]})
    assert refused.status_code == 403 and "outlive" in refused.json()["detail"]
    assert (await head.post(f"/v1/api-keys/{made['id']}/revoke")).status_code == 200


# ------------------------------------------------------------------------------------------------------- forgeries


def _public_pem() -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return private_key().public_key().public_bytes(serialization.Encoding.PEM, form)


def _by_hand(header: dict[str, Any], told: dict[str, Any], signature: bytes = b"") -> str:
    def part(raw: bytes) -> str:
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    return ".".join((part(json.dumps(header).encode()), part(json.dumps(told).encode()), part(signature)))


def _with_public_key_as_secret(told: dict[str, Any]) -> str:
    """What PyJWT refuses to make: signed with HMAC, the secret being what the issuer publishes."""
    key = jwt.get_algorithm_by_name("HS256")
    unsigned = _by_hand({"alg": "HS256", "kid": "one", "typ": "JWT"}, told).rpartition(".")[0]
    signature = key.sign(unsigned.encode(), _public_pem())
    return f"{unsigned}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def _other_claims(told: dict[str, Any]) -> str:
    head, _, tail = signed(told).split(".")
    return ".".join((head, _by_hand({}, {**told, "roles": ["heads"]}).split(".")[1], tail))


FORGERIES: dict[str, Callable[[dict[str, Any]], str]] = {
    "alg none": lambda told: _by_hand({"alg": "none", "kid": "one"}, told),
    "alg None, written otherwise": lambda told: _by_hand({"alg": "nOnE", "kid": "one"}, told, b"x"),
    "HS256 with the public key": _with_public_key_as_secret,
    "an algorithm that is not pinned": lambda told: signed(told, algorithm="RS512"),
    "another's key": lambda told: signed(told, key=private_key(2)),
    "another's key that the token brings": lambda told: signed(
        told, key=private_key(2), jwk=public_jwk(private_key(2), "one")
    ),
    "a key at an address of the token's": lambda told: signed(
        told, "two", key=private_key(2), jku="https://evil.test/keys"
    ),
    "other claims": _other_claims,
    "no signature": lambda told: signed(told).rpartition(".")[0] + ".",
    "wrong issuer": lambda told: signed({**told, "iss": "https://evil.test"}),
    "an issuer with more behind it": lambda told: signed({**told, "iss": f"{ISSUER}.evil.test"}),
    "wrong audience": lambda told: signed({**told, "aud": "somebody-else"}),
    "no audience": lambda told: signed({k: v for k, v in told.items() if k != "aud"}),
    "no end": lambda told: signed({k: v for k, v in told.items() if k != "exp"}),
    "no beginning": lambda told: signed({k: v for k, v in told.items() if k != "iat"}),
    "not yet valid": lambda told: signed({**told, "nbf": time.time() + 120}),
    "issued in the future": lambda told: signed({**told, "iat": int(time.time()) + 120}),
    "unknown kid": lambda told: signed(told, "nine"),
    "no kid": lambda told: signed(told, None),
    "a kid that is a path": lambda told: signed(told, "../../../../etc/passwd"),
    "a kid that is a statement": lambda told: signed(told, "one' OR '1'='1"),
    "a long kid": lambda told: signed(told, "k" * 300),
    "a huge token": lambda told: signed({**told, "more": "x" * MAX_CHARS}),
    "a critical extension": lambda told: signed(told, crit=["exp"]),
    "a token for a logout": lambda told: signed(told, typ="logout+jwt"),
    "an endless time": lambda told: signed({**told, "iat": float("inf")}),
    "no subject": lambda told: signed({**told, "sub": ""}),
    "no JSON": lambda told: "a.b.c",
    "nothing": lambda told: "..",
}


async def test_a_forgery_is_answered_as_a_wrong_key_is_before_a_body_is_read(
    people: Callers, scope: TenantScope
) -> None:
    told = of(scope, roles=["heads"])
    assert (await me(people, signed(told))).status_code == 200
    operation = Operation("POST", "/v1/schemas", frozenset(), True)

    async def refused(given: str) -> tuple[int, dict[str, Any], str]:
        answer = await ask(people.api, operation, nothing_is_read, {"Authorization": f"Bearer {given}"})
        document = json.loads(answer.body)
        return answer.status, {**document, "request_id": ""}, answer.headers["www-authenticate"]

    wrong_key = await refused("sw_" + "a" * 61)
    assert wrong_key[0] == 401
    assert {name for name, forged in FORGERIES.items() if await refused(forged(told)) != wrong_key} == set()


async def nothing_is_read() -> NoReturn:
    raise AssertionError("the body was read")


async def test_the_same_token_is_good_where_nothing_was_forged(people: Callers, scope: TenantScope) -> None:
    """Otherwise the forgeries above might be refused for something else."""
    for kind in ("JWT", "at+jwt", "application/at+jwt"):
        assert (await me(people, signed(of(scope, aud=["other", AUDIENCE]), typ=kind))).status_code == 200


async def test_an_ended_token_is_told_so_and_a_clock_may_be_a_little_off(
    callers: Callers, issuer: FakeIssuer, scope: TenantScope
) -> None:
    take_part(callers, issuer, clock_skew_s=30, token_max_s=3600)
    now = int(time.time())
    for exp, status in ((now - 10, 200), (now - 40, 401)):
        answer = await me(callers, signed(of(scope, iat=now - 100, exp=exp)))
        assert answer.status_code == status, exp
    assert "expired" in answer.json()["detail"]
    assert (await me(callers, signed(of(scope, nbf=now + 20, iat=now + 20)))).status_code == 200
    long = await me(callers, signed(of(scope, iat=now - 3700, exp=now + 10**9)))
    assert long.status_code == 401 and "issued more than 1 h ago" in long.json()["detail"]


@pytest.mark.seconds
async def test_what_lasts_ends_with_its_token(
    callers: Callers, issuer: FakeIssuer, scope: TenantScope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.auth.standing.CHECK_S", 0.1)
    monkeypatch.setattr("app.infra.ttl_cache.KEPT_S", 0.1)
    take_part(callers, issuer, clock_skew_s=0, roles={"staff": "editor"})
    planted = Planted(callers)
    token = signed(of(scope, exp=int(time.time()) + 2))
    events = Operation("GET", "/busy-events", frozenset(), False)
    with anyio.fail_after(10):
        answer = await ask(callers.api, events, never, {"Authorization": f"Bearer {token}"})
    assert answer.status == 200 and b"token expired" in answer.body and planted.ended == ["events"]


async def test_refused_tokens_are_counted_by_their_reason(people: Callers, scope: TenantScope) -> None:
    await me(people, signed(of(scope, aud="other")))
    await me(people, signed(of(scope), key=private_key(2)))
    await people.api.state.refused_keys.flush()
    [event] = (await (await people.platform()).get("/v1/audit", params={"action": "api_key.refused"})).json()[
        "items"
    ]
    assert event["detail"]["reasons"] == {"token_audience": 1, "token_signature": 1}


async def test_without_an_issuer_a_token_is_a_wrong_key(callers: Callers, scope: TenantScope) -> None:
    assert callers.api.state.tokens is None
    assert (await me(callers, signed(of(scope)))).json()["detail"] == "this is not a valid API key"


# ------------------------------------------------------------------------------------------------ the issuer's keys


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.ahead_s, real = 0.0, time.monotonic
        monkeypatch.setattr(issuer_keys, "monotonic", lambda: real() + self.ahead_s)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def tokens(issuer: FakeIssuer) -> PersonTokens:
    return PersonTokens(oidc(), httpx.AsyncClient(transport=httpx.ASGITransport(issuer)))


async def good(tokens: PersonTokens, key_id: str = "one", key: RSAPrivateKey | None = None) -> bool:
    try:
        await tokens.verify(signed(claims(), key_id, key))
    except RefusedKey:
        return False
    return True


async def test_keys_are_fetched_once_and_known_ones_go_on_while_the_issuer_is_away(
    tokens: PersonTokens, issuer: FakeIssuer, clock: Clock
) -> None:
    assert all(await asyncio.gather(*(good(tokens) for _ in range(20))))
    assert issuer.asked == ["/realm/.well-known/openid-configuration", "/realm/keys"]
    issuer.away = True
    for clock.ahead_s in (issuer_keys.REFRESH_S + 1, issuer_keys.KEEP_S - 60):
        assert await good(tokens)
        await anyio.sleep(0.01)
    clock.ahead_s = issuer_keys.KEEP_S + 60
    with pytest.raises(Unavailable, match="cannot be reached now"):
        await good(tokens)


async def test_a_new_key_is_found_and_a_withdrawn_one_refused(
    tokens: PersonTokens, issuer: FakeIssuer, clock: Clock
) -> None:
    assert await good(tokens)
    issuer.keys = [public_jwk(private_key(2), "two")]
    assert await good(tokens)  # nobody has asked since
    clock.ahead_s = issuer_keys.RETRY_S + 1
    assert await good(tokens, "two", private_key(2))
    assert not await good(tokens)


async def test_a_withdrawn_key_is_refused_a_while_later_though_no_token_names_another(
    tokens: PersonTokens, issuer: FakeIssuer, clock: Clock
) -> None:
    assert await good(tokens)
    issuer.keys = []
    clock.ahead_s = issuer_keys.REFRESH_S + 1
    assert await good(tokens)
    with anyio.fail_after(5):
        while await good(tokens):
            await anyio.sleep(0.01)


async def test_strangers_do_not_make_us_ask_the_issuer_as_fast_as_they_can_send(
    tokens: PersonTokens, issuer: FakeIssuer, clock: Clock
) -> None:
    assert await good(tokens)
    clock.ahead_s = issuer_keys.RETRY_S + 1
    found = await asyncio.gather(*(good(tokens, f"unknown {n}") for n in range(200)))
    assert not any(found) and len(issuer.asked) == 4
    assert not await good(tokens, "another") and len(issuer.asked) == 4


async def test_no_keys_and_no_issuer_is_an_outage_and_not_a_wrong_key(
    people: Callers, issuer: FakeIssuer, scope: TenantScope
) -> None:
    issuer.away = True
    answer = await me(people, signed(of(scope)))
    assert answer.status_code == 503 and "retry-after" in answer.headers
    assert (await (await people.of(scope, Scope.admin)).get("/v1/me")).status_code == 200  # keys go on


@pytest.mark.parametrize(
    "published",
    [
        public_jwk(private_key(), "one", use="enc"),
        public_jwk(private_key(), "one", alg="RS512"),
        public_jwk(private_key(), "one", key_ops=["encrypt"]),
        {"kty": "oct", "kid": "one", "k": "c2VjcmV0"},
        {**public_jwk(private_key(), "one"), "n": "!"},
        {**public_jwk(private_key(), "one"), "kid": None},
        "no key",
    ],
)
async def test_a_key_that_is_for_something_else_verifies_nothing(
    tokens: PersonTokens, issuer: FakeIssuer, published: Any
) -> None:
    issuer.keys = [published]
    assert not await good(tokens)


async def test_a_key_that_is_too_short_verifies_nothing(tokens: PersonTokens, issuer: FakeIssuer) -> None:
    short = private_key(bits=1024)
    issuer.keys = [public_jwk(short, "one")]
    assert not await good(tokens, key=short)


@pytest.mark.parametrize(
    "page",
    [
        {"issuer": "https://evil.test", "jwks_uri": f"{ISSUER}/keys"},
        {"issuer": ISSUER, "jwks_uri": "http://issuer.test/realm/keys"},
        {"issuer": ISSUER, "jwks_uri": 7},
        {"issuer": ISSUER, "jwks_uri": f"{ISSUER}/nothing"},
        {"issuer": ISSUER, "jwks_uri": f"{ISSUER}/keys", "more": "x" * issuer_keys.MAX_BYTES},
    ],
)
async def test_a_page_that_is_not_the_issuers_is_not_believed(
    tokens: PersonTokens, issuer: FakeIssuer, page: dict[str, Any]
) -> None:
    issuer.page = page
    with pytest.raises(Unavailable, match="cannot be reached now"):
        await good(tokens)


# --------------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"algorithms": ["HS256"]}, "OIDC algorithms"),
        ({"algorithms": ["none"]}, "OIDC algorithms"),
        ({"algorithms": []}, "OIDC algorithms"),
        ({"issuer": "http://issuer.test"}, "OIDC issuer"),
        ({"roles": {}}, "OIDC roles"),
        ({"roles": {"heads": "platform"}}, "OIDC roles.heads"),
        ({"audience": ""}, "OIDC audience"),
        ({"secret": "x"}, "OIDC secret"),
    ],
)
def test_settings_that_would_let_anybody_in_are_refused(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], said: str
) -> None:
    given = {"issuer": ISSUER, "audience": AUDIENCE, "roles": ROLES}
    monkeypatch.setenv("STEERWISE_OIDC", json.dumps(given))
    assert load_settings().oidc == oidc()
    monkeypatch.setenv("STEERWISE_OIDC", json.dumps({**given, **change}))
    with pytest.raises(InputError) as caught:
        load_settings()
    assert any(said in line for line in caught.value.details), caught.value.details
