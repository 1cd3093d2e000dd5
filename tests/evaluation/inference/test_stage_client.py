"""Answers are kept by the model that gave them, whatever it is called and whichever stage it is."""

import asyncio
from pathlib import Path

import httpx
import pytest

from evaluation.inference.stage_client import ClientSettings, ServedStage, VllmStageClient
from tests.evaluation import models
from tests.evaluation.evaluation_run import suite
from tests.evaluation.fake_server import CODES, FakeServer

QUESTIONS = suite(20).questions


def asked_of(server: FakeServer, kept: Path, *served: ServedStage) -> None:
    async def ask() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(server), base_url="http://model") as http:
            client = VllmStageClient(http, served, CODES, ClientSettings(kept, lambda *_: None))
            for one in served:
                await client.answers(one.stage, QUESTIONS)

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("versions", "times"),
    [
        (("org/a-long-name-1", "org/a-long-name-2"), 2),  # of servers elsewhere, where a name is all there is
        (("c" * 64, "c" * 64), 1),  # a stage that has learned nothing
    ],
)
def test_a_model_is_asked_once_under_every_name(
    versions: tuple[str, str], times: int, tmp_path: Path
) -> None:
    server = FakeServer(models.oracle())
    served = [ServedStage(f"stage {n}", f"model {n}", version) for n, version in enumerate(versions)]
    asked_of(server, tmp_path, *served)
    assert len(server.bodies) == times * len(QUESTIONS.each)


def test_the_same_name_at_another_server_is_another_model(tmp_path: Path) -> None:
    server = FakeServer(models.oracle())
    for address in ("http://one", "http://other", "http://one"):
        asked_of(server, tmp_path, ServedStage("candidate", "gpt", "gpt", server=address))
    assert len(server.bodies) == 2 * len(QUESTIONS.each)
