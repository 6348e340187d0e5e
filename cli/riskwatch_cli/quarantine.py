"""The commands on what was refused: `riskwatch quarantine list` and `riskwatch quarantine replay`."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from riskwatch_cli.console import show, show_counts
from riskwatch_cli.errors import STATE, explained

if TYPE_CHECKING:
    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.storage.bucket import Store

app = typer.Typer(no_args_is_help=True, help="What was refused, and judging it again once the cause is gone.")

_Start = Annotated[
    datetime | None,
    typer.Option(help="First moment (UTC); seven days before the end without it.", show_default=False),
]
_End = Annotated[datetime | None, typer.Option(help="Moment after the last one (UTC); now without it.")]


@app.command("list")
def list_refused(
    start: _Start = None,
    end: _End = None,
    limit: Annotated[int, typer.Option(min=0, help="Rows to name, newest first.")] = 20,
) -> None:
    """Count refused metric rows (by their time) and refused stream records (by arrival), and why they were refused."""
    interval = _interval(start, end)
    with explained(Path(STATE), "stopped"):
        _list(*interval, limit)


@app.command("replay")
def replay(
    start: _Start = None,
    end: _End = None,
    rows: Annotated[bool, typer.Option(help="Judge metric rows again.")] = True,
    records: Annotated[bool, typer.Option(help="Send stream records again.")] = True,
) -> None:
    """Judge refused rows by the catalogue of today, and send refused records to the live model again."""
    interval = _interval(start, end)
    with explained(Path(STATE), "stopped half way: run the same replay again to complete it"):
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
    from riskwatch_expectations import revalidate as again
    from riskwatch_expectations.validate import REASONS
    from riskwatch_ml.streaming import resend

    store, _ = _bucket()
    rows = again.held(store, start, end)
    show(f"{len(rows):,} metric rows in quarantine, {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC")
    show_counts(Counter(reason for text in rows[REASONS] for reason in str(text).split("; ")))
    for row in rows.sort_values("timestamp", ascending=False).head(limit).itertuples():
        show(f"  {row.timestamp:%Y-%m-%d %H:%M} {row.instance_id!r} ({row.part}): {row.reasons}")
    documents = [document for _, found in resend.held(store, start, end) for document in found]
    counts = resend.rows_by_reason(documents)
    show(f"{counts.total():,} rows in {len(documents):,} refused stream records that arrived in this time")
    show_counts(counts)


def _replay(start: datetime, end: datetime, rows: bool, records: bool) -> None:
    from riskwatch_ml.core import aws
    from riskwatch_ml.streaming import resend

    store, config = _bucket()
    if rows:
        from riskwatch_expectations import revalidate as again
        from riskwatch_expectations.validate import Interval
        from riskwatch_ml.schema import catalogue

        done = again.replay(store, catalogue.load(config.catalogue), Interval(start, end, config.period_s))
        show(f"{done.rows:,} metric rows = {done.validated:,} validated + {done.left:,} left in quarantine")
        show_counts(done.reasons)
    if records:
        sent = resend.send_again(store, aws.client("kinesis"), config.stream, start, end)
        show(f"{sent.rows:,} refused rows of the stream = {sent.sent:,} sent again + {sent.left:,} left")
        show_counts(sent.reasons)


def _bucket() -> tuple[Store, Settings]:
    from riskwatch_ml.core import aws, settings
    from riskwatch_ml.storage.bucket import Store

    config = settings.load()
    return Store(aws.client("s3"), config.bucket), config
