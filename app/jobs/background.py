"""Which slices have work in the background. Whoever runs or ends jobs loads them: worker, dispatcher and API."""

from importlib import import_module

# Each calls app.jobs.handlers.register, or register_sweep, as it is imported.
MODULES: tuple[str, ...] = (
    "app.audit.tasks",
    "app.datasets.tasks",
    "app.runs.tasks",
    "app.gates.tasks",
    "app.deployments.tasks",
    "app.answers.tasks",
    "app.erasure.tasks",
    "app.triggers.tasks",
    "app.operations.tasks",
)


def load_handlers() -> None:
    for name in MODULES:
        import_module(name)
