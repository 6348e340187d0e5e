"""`riskwatch status`: what serves, since when and by whom, and whether alias, MLflow and ledger agree on it."""

from __future__ import annotations

from pathlib import Path

import typer

from riskwatch_cli.console import show
from riskwatch_cli.errors import STATE, report_errors

app = typer.Typer()


@app.command()
def status() -> None:
    """Show what serves; exit with 1 if nothing does, or if alias, MLflow and ledger disagree."""
    with report_errors(Path(STATE), "stopped"):
        from riskwatch_ml.core import aws, settings
        from riskwatch_ml.registry import serving
        from riskwatch_ml.storage.bucket import Store

        config = settings.load()
        now = serving.read(config, aws.client("lambda"), Store(aws.client("s3"), config.bucket))
        show(f"alias {config.alias} of {config.function}: {now.described}")
        if now.model_id:
            show(f"model {now.model_id}")
        for text in now.texts:
            show(f"disagreement: {text}")
        if now.disagreements:
            show(f"Refreshes and changes stop. To end this, {serving.HOW_TO_END}.")
        elif now.target.checksum is not None:
            show("alias, MLflow and ledger agree")
        if now.disagreements or now.target.checksum is None:
            raise typer.Exit(1)
