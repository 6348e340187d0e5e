"""The commands that bring rows in from a CSV file: `riskwatch import` and `riskwatch stream`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from riskwatch_cli.console import bar, show, show_counts
from riskwatch_cli.errors import STATE, explained, say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from riskwatch_ml.ingest.csv_reader import CsvRows

app = typer.Typer()

_File = Annotated[
    Path,
    typer.Option(
        "--csv",
        metavar="FILE",
        help="A header line with a time column, columns named as in CloudWatch, optionally an instance column.",
    ),
]
_Name = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="What the instance is called where the file has no instance column (the file's own name without this "
        "option); else the one instance to take.",
    ),
]


@app.command("import")
def import_csv(csv: _File, instance: _Name = None) -> None:
    """Bring the rows of a CSV file into the bucket and validate them as an export would."""
    with explained(Path(STATE), "stopped half way: run the same import again to complete it"):
        if not _import(csv, instance):
            raise typer.Exit(1)


@app.command("stream")
def stream_csv(
    csv: _File,
    rate: Annotated[float | None, typer.Option(min=0.001, help="Rows a second; as fast as they go without it.")] = None,
    speed: Annotated[
        float | None, typer.Option(min=0.001, help="Times real time: 300 sends five minutes of the file each second.")
    ] = None,
    instance: _Name = None,
) -> None:
    """Send the rows of a CSV file through the stream to the live model, and say what became of each."""
    if rate is not None and speed is not None:
        raise typer.BadParameter("give --rate or --speed, not both")
    with explained(Path(STATE), "stopped: the rows sent so far are labelled all the same"):
        if not _stream(csv, rate, speed, instance):
            raise typer.Exit(1)


def _import(path: Path, instance: str | None) -> bool:
    from riskwatch_ml.core import aws, settings
    from riskwatch_ml.ingest import csv_reader
    from riskwatch_ml.schema import catalogue
    from riskwatch_ml.storage.bucket import Store

    config = settings.load()
    metrics = catalogue.load(config.catalogue)
    found = csv_reader.read(path, metrics, instance=instance)
    _announce(path, found)
    from riskwatch_cli.csv import import_rows

    with bar() as progress:
        task = progress.add_task("days validated", total=None)
        result = import_rows.bring_in(
            Store(aws.client("s3"), config.bucket),
            found.rows,
            metrics,
            config.period_s,
            lambda done, total: progress.update(task, completed=done, total=total),
        )
    show(f"{result.rows:,} rows = {result.validated:,} validated + {result.quarantined:,} quarantined")
    show_counts(result.reasons, "quarantined")
    if result.rows != result.validated + result.quarantined:
        say("the counts do not add up: something else wrote the same hours meanwhile; import the file again")
        return False
    if not result.validated:
        say(f"no row of {path.name} passed: correct what the reasons name, then import it again")
    return result.validated > 0


def _stream(path: Path, rate: float | None, speed: float | None, instance: str | None) -> bool:
    from riskwatch_cli.csv import stream_rows
    from riskwatch_lambda.model.document import LEVELS
    from riskwatch_lambda.scoring.labelled_row import RISKS
    from riskwatch_ml.core import aws, settings
    from riskwatch_ml.ingest import csv_reader
    from riskwatch_ml.schema import catalogue
    from riskwatch_ml.storage import known_instances
    from riskwatch_ml.storage.bucket import Store
    from riskwatch_ml.streaming import live_model, packs

    config = settings.load()
    metrics = catalogue.load(config.catalogue)
    found = csv_reader.read(path, metrics, instance=instance)
    _announce(path, found)
    store = Store(aws.client("s3"), config.bucket)
    model = live_model.ask(aws.client("lambda"), config.function, config.alias)
    features = live_model.wanted(metrics, model.features)
    chosen = stream_rows.select(found.rows, features)
    if chosen.rows.empty:
        say(f"{path.name}: no row has a value of {', '.join(features.names)}, which the live model needs")
        return False
    wanted = stream_rows.row_keys(chosen.rows)
    known = known_instances.load(config.inventory, store)
    packer = packs.Packer(chosen.rows, known, model.context_rows, model.max_gap_s, features)
    arrivals = stream_rows.Arrivals(store)
    with bar() as progress:
        sending = progress.add_task("sent", total=len(wanted))
        answering = progress.add_task("labelled or quarantined", total=len(wanted))
        sent = stream_rows.send(
            aws.client("kinesis"),
            config.stream,
            packer,
            wanted,
            rate=rate,
            speed=speed,
            progress=lambda done: progress.update(sending, completed=done),
        )
        verdicts = stream_rows.follow(
            arrivals,
            wanted,
            patience_s=stream_rows.PATIENCE_S,
            progress=lambda done: progress.update(answering, completed=done),
        )
    left_out = {"of the same instance and time as another": chosen.repeated, "without any value": chosen.empty}
    left = "".join(f" + {count:,} {why} (not sent)" for why, count in left_out.items() if count)
    labelled, quarantined = len(verdicts.labelled), len(verdicts.quarantined)
    show(
        f"{len(found.rows):,} rows = {labelled:,} labelled + {quarantined:,} quarantined{left}; model {model.model_id}"
    )
    show("level: " + _row(verdicts.levels(), LEVELS))
    show("risk:  " + _row(verdicts.risks(), RISKS))
    show_counts(verdicts.reasons(), "quarantined")
    if sent != len(wanted):
        say(f"{sent:,} of {len(wanted):,} rows went through")
    stream_rows.check_complete(wanted, verdicts, config.function)
    if not labelled:
        say(f"no row of {path.name} was labelled: correct what the reasons name")
    return labelled > 0


def _announce(path: Path, found: CsvRows) -> None:
    first, last = found.rows["timestamp"].min(), found.rows["timestamp"].max()
    count = found.rows["instance_id"].nunique()
    show(
        f"{path.name}: {len(found.rows):,} rows of {count:,} instance{'s' if count > 1 else ''}, "
        f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"
    )
    for note in found.notes:
        show(f"  note: {note}")


def _row(counts: Mapping[str, int], names: tuple[str, ...]) -> str:
    return ", ".join(f"{name} {counts.get(name, 0):,}" for name in names)
