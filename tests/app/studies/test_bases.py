"""Starters of a study's own: trained once by the recipe's command, kept, and found again by what was asked for."""

import io
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from app.cli.console import ConsoleReporter
from app.errors import InputError, StageProcessFailed
from app.serving.base import STARTER, find_base
from app.settings import Settings
from app.studies import bases
from app.studies.matrix import BaseRecipe, Existing, Study
from tests.app.studies.shipped import training_study
from training.base.businesses import FOR_GATES

SMALL = BaseRecipe(width=64, layers=3, minutes=1.5)
SETTINGS = Settings()


def study(wanted: Mapping[str, BaseRecipe | Existing]) -> Study:
    return training_study("size").model_copy(update={"bases": wanted})


def reporter() -> ConsoleReporter:
    return ConsoleReporter(io.StringIO())


def keep(name: str, recipe: BaseRecipe, folder: Path) -> Path:
    """As if it had been trained."""
    out = bases.folder_of(name, recipe, folder)
    shutil.copytree(find_base(STARTER).folder, out)
    (out / bases.DONE).write_text("{}")
    return out


def test_without_any_it_is_the_starter_that_ships(tmp_path: Path) -> None:
    starter = find_base(STARTER)
    assert bases.ready(study({}), tmp_path, SETTINGS, reporter()) == {"": starter}
    shipped = Existing(model=STARTER)
    assert bases.ready(study({"shipped": shipped}), tmp_path, SETTINGS, reporter()) == {"shipped": starter}
    assert not list(tmp_path.iterdir())


def test_a_study_of_other_tenants_is_on_the_base_that_is_set(tmp_path: Path) -> None:
    """The starter knows the generated world and nothing else."""
    other = tmp_path / "other"
    shutil.copytree(find_base(STARTER).folder, other)
    real = study({}).about((f"business:{FOR_GATES[0]}",))
    settings = SETTINGS.model_copy(update={"base": str(other)})
    assert bases.ready(real, tmp_path, settings, reporter())[""].folder == other


def test_one_that_was_trained_is_used_again_in_the_order_of_the_file(tmp_path: Path) -> None:
    out = keep("small", SMALL, tmp_path)
    wanted = {"small": SMALL, "shipped": Existing(model=STARTER)}
    found = bases.ready(study(wanted), tmp_path, SETTINGS, reporter())
    assert list(found) == ["small", "shipped"]
    assert found["small"].folder == out.resolve()


def test_another_recipe_is_another_starter(tmp_path: Path) -> None:
    longer = SMALL.model_copy(update={"minutes": 2.0})
    assert bases.folder_of("small", longer, tmp_path) != bases.folder_of("small", SMALL, tmp_path)


def test_a_base_that_is_not_there_is_refused_before_any_is_trained(tmp_path: Path) -> None:
    wanted = {"small": SMALL, "mine": Existing(model=str(tmp_path / "none"))}
    with pytest.raises(InputError, match="no base model"):
        bases.ready(study(wanted), tmp_path, SETTINGS, reporter())
    assert not list(tmp_path.iterdir())


def test_the_recipe_understands_what_it_is_told(tmp_path: Path) -> None:
    from training.starter.recipe import parser

    python, dash_m, module, *told = bases.command(SMALL, tmp_path)
    assert (python, dash_m, module) == (sys.executable, "-m", "training.starter.recipe")
    given = parser().parse_args(told)
    assert (given.out, given.width, given.layers, given.minutes) == (tmp_path, 64, 3, 1.5)


def test_a_training_that_fails_says_so_with_the_end_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "small.log"
    code = "import sys; print('no such corpus'); sys.exit(3)"
    with pytest.raises(StageProcessFailed, match=r"starter small was not trained \(exit code 3\)") as failed:
        bases.supervise([sys.executable, "-c", code], log, "starter small", SETTINGS, reporter())
    assert failed.value.details == ("no such corpus",)


@pytest.mark.slow
def test_what_a_stopped_training_left_is_not_taken_for_a_starter(tmp_path: Path) -> None:
    """The child goes on from its checkpoint, and this one cannot be read."""
    out = keep("small", SMALL, tmp_path)
    (out / bases.DONE).unlink()
    (out / "checkpoint.pt").write_bytes(b"cut off")
    with pytest.raises(StageProcessFailed, match="starter small was not trained"):
        bases.trained("small", SMALL, tmp_path, SETTINGS, reporter())
    assert (out / "checkpoint.pt").exists() and not (out / bases.DONE).exists()
