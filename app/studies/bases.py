"""The base models that a study compares: found, or trained once and kept beside its results.

A starter is trained for a time and not for a number of steps, so it is another one on another machine. What is trained
on it knows it by its content.
"""

import shutil
import sys
import time
from pathlib import Path

from app.cli.console import Progress
from app.errors import StageProcessFailed
from app.infra.processes import how_it_ended, log_tail, spawn, stop
from app.runs import output
from app.runs.supervisor import environment
from app.serving.base import STARTER, ModelBase, find_base
from app.settings import Settings
from app.studies.matrix import BaseRecipe, Existing, Study
from evaluation.atomic_files import write_whole

DONE = "recipe.json"  # beside the weights, once they are whole
_CHECKPOINT = "checkpoint.pt"
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
_POLL_S = 0.5


def ready(study: Study, folder: Path, settings: Settings, progress: Progress) -> dict[str, ModelBase]:
    """By name, which is empty where the study names none.

    Raises: InputError, before anything is trained; StageFailed.
    """
    wanted = study.bases
    if not wanted:
        return {"": find_base(STARTER if study.in_the_world else settings.base, settings.home, progress.note)}
    there = {name: find_base(one.model) for name, one in wanted.items() if isinstance(one, Existing)}
    made = {
        name: trained(name, one, folder, settings, progress)
        for name, one in wanted.items()
        if isinstance(one, BaseRecipe)
    }
    return {name: (there | made)[name] for name in wanted}


def trained(name: str, recipe: BaseRecipe, folder: Path, settings: Settings, progress: Progress) -> ModelBase:
    """One that was stopped goes on. Raises: StageFailed."""
    out, title = folder_of(name, recipe, folder), f"starter {name}"
    if (out / DONE).is_file():
        progress.end(title, "done before")
        return find_base(str(out))
    out.mkdir(parents=True, exist_ok=True)
    for file in _TOKENIZER:  # the same pieces and answer codes at every size
        shutil.copyfile(find_base(STARTER).folder / file, out / file)
    supervise(command(recipe, out), folder / f"{out.name}.log", title, settings, progress)
    write_whole(out / DONE, recipe.model_dump_json().encode())
    (out / _CHECKPOINT).unlink(missing_ok=True)
    progress.end(title)
    return find_base(str(out))


def folder_of(name: str, recipe: BaseRecipe, folder: Path) -> Path:
    """Named after the recipe too, so that another recipe under the same name is not taken for it."""
    return folder / f"{name}-{output.key_of(recipe.model_dump_json())[:8]}"


def command(recipe: BaseRecipe, out: Path) -> list[str]:
    told = {"--out": out, "--width": recipe.width, "--layers": recipe.layers, "--minutes": recipe.minutes}
    options = [str(part) for option in told.items() for part in option]
    return [sys.executable, "-m", "training.starter.recipe", *options]


def supervise(argv: list[str], log: Path, title: str, settings: Settings, progress: Progress) -> None:
    """The last line of the log is what is shown. Raises: StageFailed."""
    child = spawn(argv, log, environment())
    try:
        while child.poll() is None:
            progress.update(title, 0, None, next(iter(log_tail(log, 1)), ""))
            time.sleep(_POLL_S)
    finally:
        stop(child, settings.stage_stop_timeout_s)
    if child.returncode:
        ending = how_it_ended(child.returncode)
        raise StageProcessFailed(f"{title} was not trained ({ending}); its log: {log}", log_tail(log))
