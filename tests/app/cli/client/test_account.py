"""Keys, tenants and profiles, and what is said where the API cannot be asked."""

import stat
import tarfile
from pathlib import Path

import pytest

from tests.app.cli.client.conftest import Installation, Shell


def test_a_platform_admin_makes_a_tenant_and_its_first_key_by_name(
    platform: Shell, installation: Installation
) -> None:
    to_be = platform.within(STEERWISE_TENANT="Blue Lake")  # what is set for the commands after this one
    made = to_be.json("tenants", "create", "Blue Lake", "--serve-edits", "at_once", "--quota-mib", "8")
    assert (made["serve_edits"], made["upload_quota_bytes"]) == ("at_once", 8 << 20)
    key = platform.run(
        "keys", "create", "router", "--scope", "classify", "--days", "30", "--tenant", "Blue Lake"
    )
    theirs = installation.shell(key.stdout.strip())
    me = theirs.json("whoami")
    assert (me["tenant_name"], me["key"]["scopes"]) == ("Blue Lake", ["classify"])
    assert "Blue Lake" in theirs.run("whoami").stdout
    assert [found["name"] for found in platform.json("tenants", "list", "--limit", "1")] == ["Blue Lake"]
    changed = theirs.within(STEERWISE_API_KEY=installation.platform_key).json(
        "tenants", "change", "Blue Lake", "--abstain-below", "0.4"
    )
    assert changed["abstain_below"] == 0.4


@pytest.mark.seconds
def test_a_tenant_is_taken_along_and_then_removed_for_good(
    platform: Shell, installation: Installation, tmp_path: Path
) -> None:
    made = platform.json("tenants", "create", "Red Hill", "--keep-files", "30", "--keep-conversations", "0")
    assert (made["keep_files_days"], made["keep_conversations_days"]) == (30, None)
    key = platform.run("keys", "create", "own", "--scope", "admin", "--tenant", "Red Hill").stdout.strip()
    archive = tmp_path / "red-hill.tar"
    told = installation.shell(key).json("tenants", "export", str(archive))
    assert told["bytes"] == archive.stat().st_size
    with tarfile.open(archive) as opened:
        assert (
            opened.getnames()[0] == "tables/tenants-0001.jsonl" and opened.getnames()[-1] == "complete.json"
        )
    again = installation.shell(key).run("tenants", "export", str(archive), code=2)
    assert "there already" in again.stderr
    kept = platform.run("tenants", "delete", "Red Hill", code=1, input="n\n")
    assert "with everything" in kept.output
    assert platform.json("tenants", "show", "Red Hill")["id"] == made["id"]
    gone = platform.json("tenants", "delete", "Red Hill", "--yes")
    assert gone["id"] == made["id"] and gone["deleted_at"]
    assert "unauthorized" in installation.shell(key).run("whoami", code=2).stderr
    assert "no tenant called" in platform.run("tenants", "show", "Red Hill", code=2).stderr


def test_a_revoked_key_is_refused(tenant: Shell, installation: Installation) -> None:
    made = tenant.json("keys", "create", "old")
    tenant.run("keys", "revoke", made["id"])
    refused = installation.shell(made["key"]).run("whoami", code=2)
    assert "unauthorized" in refused.stderr
    listed = {key["id"]: key for key in tenant.json("keys", "list")}
    assert listed[made["id"]]["revoked_at"] is not None


def test_without_a_key_it_says_how_to_give_one(tenant: Shell) -> None:
    refused = tenant.within(STEERWISE_API_KEY="").run("runs", "list", code=2)
    assert "steerwise login" in refused.stderr
    assert "Traceback" not in refused.output


def test_a_platform_admin_who_names_no_tenant_is_told_the_option(platform: Shell) -> None:
    assert "--tenant" in platform.run("schemas", "list", code=2).stderr


def test_an_api_that_is_not_there_ends_with_1_and_says_what_to_start(tenant: Shell) -> None:
    away = tenant.within(STEERWISE_URL="http://127.0.0.1:9").run("whoami", code=1)
    assert "steerwise serve" in away.stderr
    assert away.stdout == ""


def test_a_url_that_is_none_ends_with_2(tenant: Shell) -> None:
    for url in ("localhost:8000", "ftp://steerwise.test"):
        assert url in tenant.within(STEERWISE_URL=url).run("whoami", code=2).stderr


def test_login_keeps_the_key_where_nobody_else_can_read_it(tenant: Shell, installation: Installation) -> None:
    bare = tenant.within(STEERWISE_API_KEY="", STEERWISE_URL="")
    bare.run("login", "--url", installation.url, "--profile", "shop", input=f"{installation.tenant_key}\n")
    path = Path(tenant.env["XDG_CONFIG_HOME"]) / "steerwise" / "config.toml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert bare.json("whoami", "--profile", "shop")["tenant_name"] == installation.told.tenant.name
    assert "no profile 'shup'" in bare.run("whoami", "--profile", "shup", code=2).stderr
    assert "steerwise login" in bare.within(STEERWISE_URL=installation.url).run("whoami", code=2).stderr


def test_a_key_that_does_not_work_is_not_kept(tenant: Shell, installation: Installation) -> None:
    tenant.run("login", "--url", installation.url, "--api-key", "sw_wrong_key", code=2)
    assert not (Path(tenant.env["XDG_CONFIG_HOME"]) / "steerwise").exists()


def test_a_broken_configuration_file_is_named(tenant: Shell) -> None:
    path = Path(tenant.env["XDG_CONFIG_HOME"]) / "steerwise" / "config.toml"
    path.parent.mkdir(parents=True)
    for text, said in (("[default", "cannot be read"), ("[default]\ncolour = 'red'\n", "colour")):
        path.write_text(text)
        assert said in tenant.run("whoami", code=2).stderr


def test_what_was_used_is_shown_by_day(tenant: Shell) -> None:
    assert tenant.json("usage")["requests"] == 0
    assert "in all" in tenant.run("usage").stdout


def test_who_did_what_is_shown(tenant: Shell) -> None:
    made = tenant.json("keys", "create", "router")
    found = tenant.json("audit", "--subject", f"api_key:{made['id']}")
    assert len(found) == 1
    assert found[0]["action"] in tenant.run("audit").stdout
