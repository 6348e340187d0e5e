"""The commands on a CSV file: `riskwatch import` and `riskwatch stream`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from riskwatch_cli.console import bar, show, show_counts
from riskwatch_cli.errors import STATE, print_error, report_errors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from riskwatch_cli.csv.stream_rows import Key, Selection, Verdicts
    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.ingest.csv_reader import CsvRows
    from riskwatch_ml.storage.bucket import Store
    from riskwatch_ml.streaming.packs import Packer

app = typer.Typer()

_File = Annotated[
    Path,
    typer.Option(
        "--csv",
        metavar="FILE",
        help="CSV file: a header line with a time column, metrics named as in CloudWatch, and optionally an instance "
        "column.",
    ),
]
_Name = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="If the file has no instance column: the name of the instance (default: the name of the file). Otherwise: "
        "the only instance to read.",
    ),
]
_Kind = Annotated[
    str | None,
    typer.Option(
        metavar="KIND",
        help="The kind of resource that the file is about, one of those in the setting catalogue (default: the first).",
    ),
]


@app.command("import")
def import_csv(csv: _File, instance: _Name = None, kind: _Kind = None) -> None:
    """Import the rows of a CSV file into the bucket and validate them like an export."""
    with report_errors(Path(STATE), "stopped halfway: run the same import again to complete it"):
        if not _import(csv, instance, kind):
            raise typer.Exit(1)


@app.command("stream")
def stream_csv(
    csv: _File,
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="Rows per second; default: as fast as possible.")
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option(min=0.001, help="Multiple of real time: 300 sends five minutes of the file per second."),
    ] = None,
    instance: _Name = None,
    kind: _Kind = None,
) -> None:
    """Send the rows of a CSV file through the stream to the live model.

    The output counts the labelled and the quarantined rows.
    """
    if rate is not None and speed is not None:
        raise typer.BadParameter("give --rate or --speed, not both")
    with report_errors(Path(STATE), "stopped: the rows sent so far are still labelled"):
        if not _stream(csv, rate, speed, instance, kind):
            raise typer.Exit(1)


def _import(path: Path, instance: str | None, kind: str | None) -> bool:
    from riskwatch_cli.csv import kinds as of_kind
    from riskwatch_ml.core import aws, settings
    from riskwatch_ml.schema import catalogue
    from riskwatch_ml.storage.bucket import Store

    config = settings.load()
    kinds = catalogue.load_all(config.catalogue)
    metrics = of_kind.select(kinds, kind)
    csv_rows = of_kind.read(path, config, kinds, metrics, instance)
    _announce(path, csv_rows)
    from riskwatch_cli.csv import import_rows

    with bar() as progress:
        task = progress.add_task("days validated", total=None)
        result = import_rows.bring_in(
            Store(aws.client("s3"), config.bucket),
            csv_rows.rows,
            metrics,
            config.period_s,
            lambda done, total: progress.update(task, completed=done, total=total),
        )
    show(f"{result.rows:,} rows = {result.validated:,} validated + {result.quarantined:,} quarantined")
    show_counts(result.reasons, "quarantined")
    show(f"{result.values:,} values = {result.values_kept:,} kept + {result.values_refused:,} refused")
    show_counts(result.value_reasons, "refused")
    if not result.adds_up:
        print_error("the counts do not add up: another writer changed the same hours meanwhile; import the file again")
        return False
    if not result.validated:
        print_error(
            f"no row of {path.name} passed the validation: fix what the reasons name, then import the file again"
        )
    return result.validated > 0


def _stream(path: Path, rate: float | None, speed: float | None, instance: str | None, kind: str | None) -> bool:
    from riskwatch_cli.csv import kinds as of_kind
    from riskwatch_cli.csv import stream_rows
    from riskwatch_ml.core import aws, settings
    from riskwatch_ml.schema import catalogue
    from riskwatch_ml.storage import known_instances
    from riskwatch_ml.storage.bucket import Store
    from riskwatch_ml.streaming import live_model, packs

    config = settings.load()
    kinds = catalogue.load_all(config.catalogue)
    metrics = of_kind.select(kinds, kind)
    csv_rows = of_kind.read(path, config, kinds, metrics, instance)
    _announce(path, csv_rows)
    store = Store(aws.client("s3"), config.bucket)
    model = live_model.ask(aws.client("lambda"), config.function, config.alias)
    part = of_kind.live_part(model, kinds, metrics)
    features = live_model.select_metrics(metrics, part.features)
    selection = stream_rows.select(csv_rows.rows, features)
    if selection.rows.empty:
        print_error(f"{path.name}: no row has a value of {', '.join(features.names)}, which the live model needs")
        return False
    known = known_instances.load(config.inventory, store)
    packer = packs.Packer(
        *(selection.rows, known, part.context_rows, part.max_gap_s, features),
        kind=None if part is model else metrics.kind,
    )
    keys = stream_rows.row_keys(selection.rows)
    sent, verdicts = _send(config, store, packer, keys, rate, speed)
    _show_verdicts(len(csv_rows.rows), selection, verdicts, part.model_id)
    if sent != len(keys):
        print_error(f"{sent:,} of {len(keys):,} rows were sent")
    stream_rows.check_complete(keys, verdicts, config.function)
    if not verdicts.labelled:
        print_error(f"no row of {path.name} was labelled: fix what the reasons name")
    return len(verdicts.labelled) > 0


def _send(
    config: Settings, store: Store, packer: Packer, keys: set[Key], rate: float | None, speed: float | None
) -> tuple[int, Verdicts]:
    """Send rows and await their verdicts; return the number sent and the verdicts."""
    from riskwatch_cli.csv import stream_rows
    from riskwatch_ml.core import aws

    arrivals = stream_rows.Arrivals(store)
    with bar() as progress:
        sending = progress.add_task("sent", total=len(keys))
        answering = progress.add_task("labelled or quarantined", total=len(keys))
        sent = stream_rows.send(
            aws.client("kinesis"),
            config.stream,
            packer,
            keys,
            rate=rate,
            speed=speed,
            progress=lambda done: progress.update(sending, completed=done),
        )
        verdicts = stream_rows.follow(
            arrivals,
            keys,
            patience_s=stream_rows.PATIENCE_S,
            progress=lambda done: progress.update(answering, completed=done),
        )
    return sent, verdicts


def _show_verdicts(rows: int, selection: Selection, verdicts: Verdicts, model_id: str) -> None:
    """Print the outcome of the `rows` rows of the file."""
    from riskwatch_lambda.model.document import LEVELS
    from riskwatch_lambda.scoring.labelled_row import RISKS

    omitted = {"of the same instance and time as another": selection.repeated, "without any value": selection.empty}
    not_sent = "".join(f" + {count:,} {why} (not sent)" for why, count in omitted.items() if count)
    labelled, quarantined = len(verdicts.labelled), len(verdicts.quarantined)
    show(f"{rows:,} rows = {labelled:,} labelled + {quarantined:,} quarantined{not_sent}; model {model_id}")
    show("level: " + _row(verdicts.levels(), LEVELS))
    show("risk:  " + _row(verdicts.risks(), RISKS))
    show_counts(verdicts.reasons(), "quarantined")
    show_counts(verdicts.value_reasons(), "refused values of labelled rows")


def _announce(path: Path, csv_rows: CsvRows) -> None:
    rows = csv_rows.rows
    first, last = rows["timestamp"].min(), rows["timestamp"].max()
    count = rows["instance_id"].nunique()
    show(
        f"{path.name}: {len(rows):,} rows of {count:,} instance{'s' if count > 1 else ''}, "
        f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"
    )
    for note in csv_rows.notes:
        show(f"  note: {note}")


def _row(counts: Mapping[str, int], names: tuple[str, ...]) -> str:
    return ", ".join(f"{name} {counts.get(name, 0):,}" for name in names)
