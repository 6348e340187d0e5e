"""The commands on quarantined data: `riskwatch quarantine list` and `replay`."""

from __future__ import annotations

import operator
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from riskwatch_cli.console import show, show_counts
from riskwatch_cli.errors import STATE, report_errors

if TYPE_CHECKING:
    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.storage.bucket import Store

app = typer.Typer(
    no_args_is_help=True, help="List quarantined rows and records, and process them again after the cause is fixed."
)

_Start = Annotated[
    datetime | None,
    typer.Option(help="Start (UTC); default: seven days before the end.", show_default=False),
]
_End = Annotated[datetime | None, typer.Option(help="End (UTC), exclusive; default: now.")]


@app.command("list")
def list_refused(
    start: _Start = None,
    end: _End = None,
    limit: Annotated[int, typer.Option(min=0, help="Number of rows to show, newest first.")] = 20,
) -> None:
    """Count quarantined metric rows, refused values and refused stream records by reason.

    The interval selects metric rows by their timestamp and stream records by their arrival.
    """
    interval = _interval(start, end)
    with report_errors(Path(STATE), "stopped"):
        _list(*interval, limit)


@app.command("replay")
def replay(
    start: _Start = None,
    end: _End = None,
    rows: Annotated[bool, typer.Option(help="Validate metric rows again.")] = True,
    records: Annotated[bool, typer.Option(help="Send stream records again.")] = True,
) -> None:
    """Validate quarantined rows by the current catalogue, and resend refused records."""
    interval = _interval(start, end)
    with report_errors(Path(STATE), "stopped halfway: run the same replay again to complete it"):
        _replay(*interval, rows, records)


def _interval(start: datetime | None, end: datetime | None) -> tuple[datetime, datetime]:
    from riskwatch_ml.core import clock

    last = _utc(end) if end else clock.now()
    first = _utc(start) if start else last - timedelta(days=7)
    if first >= last:
        raise typer.BadParameter(f"the start, {clock.iso(first)}, is not before the end, {clock.iso(last)}")
    return first, last


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _list(start: datetime, end: datetime, limit: int) -> None:
    import pandas as pd

    from riskwatch_expectations import revalidate
    from riskwatch_expectations.validate import REASONS
    from riskwatch_ml.streaming import resend

    store, _, kinds = _bucket()
    rows = pd.concat([revalidate.read_quarantined(store, metrics, start, end) for metrics in kinds])
    show(f"{len(rows):,} metric rows in quarantine, {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC")
    show_counts(Counter(reason for text in rows[REASONS] for reason in str(text).split("; ")))
    for row in rows.sort_values("timestamp", ascending=False).head(limit).itertuples():
        show(f"  {row.timestamp:%Y-%m-%d %H:%M} {row.instance_id!r} ({row.part}): {row.reasons}")
    values = pd.concat([revalidate.read_refused_values(store, metrics, start, end) for metrics in kinds])
    show(f"{len(values):,} refused values of validated rows in the same interval")
    show_counts(Counter(map(str, values["reason"])))
    for value in values.sort_values("timestamp", ascending=False).head(limit).itertuples():
        show(f"  {value.timestamp:%Y-%m-%d %H:%M} {value.instance_id!r} ({value.part}): {value.metric} {value.value:g}")
    documents = [document for _, lines in resend.read_quarantined(store, start, end) for document in lines]
    counts = resend.rows_by_reason(documents)
    show(f"{counts.total():,} rows in {len(documents):,} refused stream records that arrived in this interval")
    show_counts(counts)


def _replay(start: datetime, end: datetime, rows: bool, records: bool) -> None:
    from riskwatch_ml.core import aws
    from riskwatch_ml.streaming import resend

    store, config, kinds = _bucket()
    if rows:
        from riskwatch_expectations import revalidate
        from riskwatch_expectations.validate import Interval

        interval = Interval(start, end, config.period_s)
        result = reduce(operator.add, (revalidate.revalidate(store, metrics, interval) for metrics in kinds))
        show(f"{result.rows:,} metric rows = {result.validated:,} validated + {result.left:,} left in quarantine")
        show_counts(result.reasons)
        left = sum(result.value_reasons.values())
        show(
            f"{result.values_returned + left:,} refused values = {result.values_returned:,} returned to their rows + "
            f"{left:,} left"
        )
        show_counts(result.value_reasons)
    if records:
        sent = resend.send_again(store, aws.client("kinesis"), config.stream, start, end)
        show(f"{sent.rows:,} refused rows of the stream = {sent.sent:,} sent again + {sent.left:,} left")
        show_counts(sent.reasons)


def _bucket() -> tuple[Store, Settings, tuple[Catalogue, ...]]:
    from riskwatch_ml.core import aws, settings
    from riskwatch_ml.schema import catalogue
    from riskwatch_ml.storage.bucket import Store

    config = settings.load()
    return Store(aws.client("s3"), config.bucket), config, catalogue.load_all(config.catalogue)
