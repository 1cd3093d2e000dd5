"""The parts of the product as commands, where they cannot be started."""

from pathlib import Path

import pytest
from sqlalchemy import make_url
from typer.testing import CliRunner, Result

from app.cli.program import cli
from app.serving.base import STARTER, find_base
from tests.servers.postgres import Place


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(cli, arguments, env=environment, catch_exceptions=False)


@pytest.mark.parametrize("command", ["migrate", "serve"])
def test_a_database_that_does_not_answer_is_said_so_without_its_password(
    command: str, tmp_path: Path
) -> None:
    url = "postgresql://somebody:hidden@127.0.0.1:9/steerwise"
    home, port = str(tmp_path / "home"), {"STEERWISE_PORT": "18973"} if command == "serve" else {}
    ended = run(command, STEERWISE_HOME=home, STEERWISE_DATABASE_URL=url, **port)
    assert ended.exit_code == 2
    assert "cannot be used" in ended.stderr
    assert "hidden" not in ended.output


def test_a_database_that_is_not_there_is_said_so(place: Place, tmp_path: Path) -> None:
    url = make_url(place.owner_url).set(database="no_such").render_as_string(hide_password=False)
    ended = run("migrate", STEERWISE_HOME=str(tmp_path), STEERWISE_DATABASE_URL=url)
    assert ended.exit_code == 2
    assert "does not exist" in ended.stderr


def test_migrating_twice_does_no_harm(tmp_path: Path) -> None:
    for _ in range(2):
        ended = run("migrate", STEERWISE_HOME=str(tmp_path / "home"))
        assert "up to date" in ended.stdout
    assert (tmp_path / "home" / "steerwise.db").is_file()


def test_a_worker_without_a_redis_or_of_an_unknown_queue_is_refused(tmp_path: Path) -> None:
    home = str(tmp_path)
    assert "STEERWISE_REDIS_URL" in run("worker", STEERWISE_HOME=home).stderr
    refused = run(
        "worker", "--queues", "cpu,tpu", STEERWISE_HOME=home, STEERWISE_REDIS_URL="redis://127.0.0.1:9"
    )
    assert refused.exit_code == 2
    assert "cpu,gpu" in refused.stderr


def test_the_base_is_made_below_a_home_of_ones_own_and_its_place_is_said(tmp_path: Path) -> None:
    home = tmp_path / "mounted" / "home"
    ended = run("base", STEERWISE_HOME=str(home), STEERWISE_BASE="starter")
    assert (ended.exit_code, ended.stdout.strip()) == (0, str(find_base(STARTER).folder))
    assert home.stat().st_mode & 0o777 == 0o700
    unknown = run("base", STEERWISE_HOME=str(home), STEERWISE_BASE="no-such-base")
    assert unknown.exit_code == 2 and "no base model" in unknown.stderr
