"""The `riskwatch` command.

Each command imports its dependencies when it runs, so that help and errors appear immediately.
"""

from __future__ import annotations

import typer

from riskwatch_cli import backtest, cost, demo, quarantine, silence, status
from riskwatch_cli.csv import commands as csv

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
for module in (csv, backtest, cost, demo, status):
    app.registered_commands += module.app.registered_commands
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(silence.app, name="silence")


@app.callback()
def main() -> None:
    """Learn what is normal for every instance, label each row of metrics, and alert."""
