"""The `riskwatch` command. Each command imports what it needs when it runs, so that help and errors come at once."""

from __future__ import annotations

import typer

from riskwatch_cli import backtest, demo, quarantine, silence
from riskwatch_cli.csv import commands as csv

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
for module in (csv, backtest, demo):
    app.registered_commands += module.app.registered_commands
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(silence.app, name="silence")


@app.callback()
def main() -> None:
    """Riskwatch learns what is normal for every instance, labels each row of metrics and alerts on what is not."""
