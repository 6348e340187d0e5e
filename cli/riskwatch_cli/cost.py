"""`riskwatch cost`: the price of reading a fleet, by kind, before anything is read."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from riskwatch_cli.console import show
from riskwatch_cli.errors import STATE, report_errors

if TYPE_CHECKING:
    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.ingest.cost import Cost
    from riskwatch_ml.schema.catalogue import Catalogue

app = typer.Typer()
# Exports of the last hours say which instances report: one that is late by two hours is still seen.
_RECENT = timedelta(hours=4)
# The second line names the columns, the first one groups of them.
_HEAD = ("", "", "", "one export", "", "month of exports", "", "month of stream", "", "month")
_COLUMNS = ("kind", "instances", "metrics", "calls", "price", "calls", "price", "calls", "price", "price")


@app.command()
def cost(
    kind: Annotated[
        list[str] | None,
        typer.Option(
            help="A packaged catalogue or the path of one, and a number of instances, such as ec2=100; repeat it for "
            "each kind. Default: the kinds of the installation and their instances.",
            metavar="KIND=N",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Predict the calls and dollars of GetMetricData: one export, and a month of hourly exports and of streaming."""
    fleet_by_hand = [_counted(text) for text in kind or ()]
    with report_errors(Path(STATE), "stopped"):
        from riskwatch_ml.ingest import cost as prediction
        from riskwatch_ml.schema import catalogue

        if fleet_by_hand:
            fleet = [(catalogue.load(source), count) for source, count in fleet_by_hand]
            plan = prediction.Plan()
        else:
            from riskwatch_ml.core import settings

            config = settings.load()
            fleet, plan = _installed(config), prediction.Plan.of(config)
        _show([*prediction.predict(fleet, plan), prediction.total(fleet, plan)])
        show("")
        show(
            f"List price of GetMetricData, $0.01 per 1,000 metrics, rows of {plan.period_s} s, a month of "
            f"{prediction.MONTH_DAYS} days; kinds that are read together share their calls."
        )


def _counted(text: str) -> tuple[str, int]:
    source, equals, count = text.rpartition("=")
    if not equals or not source or not count.isascii() or not count.isdigit():
        raise typer.BadParameter(f"{text!r}: write a kind and a number of instances, such as ec2=100")
    return source, int(count)


def _installed(config: Settings) -> list[tuple[Catalogue, int]]:
    """Return the kinds of the installation with their instances: those expected, and those exported lately."""
    from riskwatch_ml.core import aws, clock
    from riskwatch_ml.schema import catalogue
    from riskwatch_ml.storage import keys, known_instances
    from riskwatch_ml.storage.bucket import Store

    store = Store(aws.client("s3"), config.bucket)
    now = clock.now()
    kinds = catalogue.load_all(config.catalogue)
    known = known_instances.load(config.inventory, store)
    fleet = []
    for metrics in kinds:
        exported = store.read_hours(keys.of_kind(keys.RAW, metrics), now - _RECENT, now, columns=())
        expected = catalogue.names_of_kind(known, metrics, kinds)
        fleet.append((metrics, len(expected | set(exported["instance_id"]))))
    return fleet


def _show(costs: list[Cost]) -> None:
    rows = [_HEAD, _COLUMNS, *map(_cells, costs)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *cells in rows:
        numbers = "  ".join(cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        show(f"{name.ljust(widths[0])}  {numbers}".rstrip())


def _cells(cost: Cost) -> tuple[str, ...]:
    return (
        cost.kind,
        f"{cost.instances:,}",
        f"{cost.export.metrics:,}",
        f"{cost.export.calls:,}",
        f"${cost.export.dollars:,.4f}",
        f"{cost.exports.calls:,}",
        f"${cost.exports.dollars:,.2f}",
        f"{cost.streaming.calls:,}",
        f"${cost.streaming.dollars:,.2f}",
        f"${cost.dollars:,.2f}",
    )
