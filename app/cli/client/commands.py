"""All groups of commands that ask the API."""

import typer

from app.cli.client import (
    account,
    answers,
    conversations,
    datasets,
    gates,
    operations,
    runs,
    schemas,
    triggers,
)
from app.cli.client.call import PANEL

commands = typer.Typer()
commands.add_typer(account.top)
for name, group in (
    ("tenants", account.tenants),
    ("keys", account.keys),
    ("audit", account.trail),
    ("schemas", schemas.schemas),
    ("datasets", datasets.datasets),
    ("conversations", conversations.conversations),
    ("answers", answers.answers),
    ("runs", runs.runs),
    ("models", runs.models),
    ("triggers", triggers.triggers),
    ("gates", gates.gates),
    ("deployments", gates.deployments),
    ("maintenance", operations.maintenance),
):
    commands.add_typer(group, name=name, rich_help_panel=PANEL)
commands.add_typer(gates.gates, name="gate", hidden=True)  # one is what most commands are about
