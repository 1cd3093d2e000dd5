"""The installation's teachers in runs that say their names: who they are, and whose key is whose."""

from collections.abc import Iterator, Mapping

from app.errors import InputError, Problem
from app.settings import InstalledTeacher, Settings
from training.config import EndpointTeacher, NamedTeacher, Traces

KEYS = "STEERWISE_TEACHER_"  # how the name of a variable with a teacher's key begins, for the process that asks it


def named(stage: Traces) -> list[NamedTeacher]:
    return [teacher for teacher in stage.teachers if isinstance(teacher, NamedTeacher)]


def problems(stage: Traces, settings: Settings, where: str) -> Iterator[Problem]:
    """What a tenant may not say, or what does not exist here."""
    for number, teacher in enumerate(stage.teachers):
        place = f"{where}, teachers[{number}]"
        if isinstance(teacher, EndpointTeacher):
            yield Problem(f"{place}.kind", f"a server is not named by its address here; {_known(settings)}")
        elif isinstance(teacher, NamedTeacher):
            if teacher.name not in settings.teachers:
                yield Problem(f"{place}.name", f"is no teacher of this installation; {_known(settings)}")
            elif stage.max_usd is not None and not settings.teachers[teacher.name].has_a_price:
                yield Problem(
                    f"{where}, max_usd", f"limits nothing: the teacher {teacher.name} costs nothing"
                )
        elif teacher.model is not None:
            yield Problem(f"{place}.model", "cannot be chosen here; leave it out to learn from the base")


def _known(settings: Settings) -> str:
    names = ", ".join(sorted(settings.teachers)) or "none"
    return f'say {{"kind": "named", "name": …}} with one of its teachers ({names})'


def resolved(stage: Traces, settings: Settings, granted: Mapping[str, float] | None = None) -> Traces:
    """With the installation's teachers in the place of their names. granted: what each may cost at most.

    Raises: InputError.
    """
    limits = granted or {}
    found = [
        _endpoint(teacher, settings, limits.get(teacher.name))
        if isinstance(teacher, NamedTeacher)
        else teacher
        for teacher in stage.teachers
    ]
    return stage.model_copy(update={"teachers": tuple(found)})


def _endpoint(asked: NamedTeacher, settings: Settings, max_usd: float | None) -> EndpointTeacher:
    known = installed(asked.name, settings)
    return EndpointTeacher(
        base_url=known.base_url,
        model=known.model,
        api_key_env=None if known.api_key is None else key_variable(asked.name),
        hint=asked.hint,
        corrects=asked.corrects,
        concurrency=known.concurrency,
        requests_per_minute=known.requests_per_minute,
        timeout_s=known.timeout_s,
        prompt_usd_per_million=known.prompt_usd_per_million,
        completion_usd_per_million=known.completion_usd_per_million,
        name=asked.name,
        max_usd=max_usd,
    )


def installed(name: str, settings: Settings) -> InstalledTeacher:
    known = settings.teachers.get(name)
    if known is None:
        raise InputError(f"the teacher {name} is no longer one of this installation's (STEERWISE_TEACHERS)")
    return known


def key_variable(name: str) -> str:
    return f"{KEYS}{name.upper()}"


def keys(stage: Traces, settings: Settings) -> dict[str, str]:
    """For the environment of the process that does this stage: the keys of its own teachers, and no others."""
    names = {t.name for t in stage.teachers if isinstance(t, EndpointTeacher) and t.name in settings.teachers}
    held = {name: settings.teachers[name].api_key for name in sorted(names)}
    return {key_variable(name): key.get_secret_value() for name, key in held.items() if key is not None}
