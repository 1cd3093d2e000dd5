"""A person with a token of an issuer, at the command line: everything real, with sockets between them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.settings import OidcIssuer
from tests.app.cli.client.conftest import Installation
from tests.factories.rows import CONTENT
from tests.servers.issuer import AUDIENCE, FakeIssuer, claims, signed
from tests.servers.s3 import serving


@pytest.fixture
def oidc() -> Iterator[OidcIssuer]:
    issuer = FakeIssuer()
    with serving(issuer) as url:
        issuer.is_at(url)
        yield OidcIssuer(
            issuer=f"{url}/realm", audience=AUDIENCE, roles={"leads": "editor"}, name_claim="email"
        )


def test_a_person_is_told_who_they_are_and_found_in_the_trail(
    installation: Installation, oidc: OidcIssuer, tmp_path: Path
) -> None:
    tenant = str(installation.told.tenant.id)
    token = signed(claims(iss=oidc.issuer, tenant=tenant, roles=["leads"], email="ada@example.com"))
    ada = installation.shell(token)
    told = ada.run("whoami").stdout
    assert "ada@example.com" in told and oidc.issuer in told and "schemas:write" in told
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps(CONTENT))
    ada.run("schemas", "create", str(schema), "--name", "parcels")
    shown = installation.shell(installation.tenant_key).run("audit", "--action", "schema.created").stdout
    assert "ada@example.com" in shown
    refused = ada.run("keys", "create", "mine", code=2)
    assert "forbidden" in refused.stderr
