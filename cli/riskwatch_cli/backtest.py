"""`riskwatch backtest`: label past metrics as the live system would have done."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from riskwatch_cli.console import bar, show
from riskwatch_cli.errors import STATE, report_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pandas as pd

    from riskwatch_ml.model.page_budget import PageBudget

app = typer.Typer()
COLUMNS_SHOWN = 8


@app.command()
def backtest(
    history: Annotated[
        Path, typer.Option(help="Parquet file with the past: instance_id (read as text), timestamp (UTC), metrics.")
    ],
    replay: Annotated[
        Path, typer.Option(help="Parquet file with the same columns: the rows after the history, to be labelled.")
    ],
    out: Annotated[
        Path, typer.Option(help="Parquet file to write: score, alert, risk and level of each replay row; ids are text.")
    ],
    family: Annotated[
        str, typer.Option(help="Model family: auto, kmeans, dbscan, ensemble, hierarchical or kmedoids.")
    ] = "auto",
    pages_per_day: Annotated[
        float | None, typer.Option(help="Pages a day for the whole fleet. Default: 4, or one for each ten instances.")
    ] = None,
    pages_per_instance_day: Annotated[
        float | None, typer.Option(help="Pages a day for each instance, to compare fleets of different sizes.")
    ] = None,
    ordinary_days: Annotated[
        bool, typer.Option("--ordinary-days", help="Leave the busiest fifth of the instance-days out of the budget.")
    ] = False,
    budget: Annotated[float | None, typer.Option(hidden=True)] = None,
    refit_hours: Annotated[float, typer.Option(help="Hours between refreshes of the model.")] = 24,
    report: Annotated[Path | None, typer.Option(help="Folder for a Markdown report with figures.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Parquet file with instance_id, timestamp and label (0 or 1), for the report.")
    ] = None,
) -> None:
    """Replay past metrics with refreshes and the production episode rule.

    The result shows how Riskwatch would have labelled the metrics if it had run at that time. RISKWATCH_TIME_ZONES and
    RISKWATCH_HOLIDAYS have the seasons.
    """
    with report_errors(Path(STATE), "stopped; nothing was written"):
        pages = _budget(pages_per_day, pages_per_instance_day, ordinary_days, budget)
        _backtest(history, replay, out, family, pages, refit_hours, report, labels)


def _backtest(
    history: Path,
    replay: Path,
    out: Path,
    family: str,
    budget: Callable[[int], PageBudget],
    refit_hours: float,
    report: Path | None,
    labels: Path | None,
) -> None:
    from riskwatch_ml.backtest import episodes
    from riskwatch_ml.backtest import replay as replays
    from riskwatch_ml.backtest import report as backtest_report
    from riskwatch_ml.backtest.inputs import unwatched

    _check_paths(out, report, labels)
    truth = None if labels is None else _labels(labels)
    past, after = _read(history), _read(replay)
    _announce(unwatched(past, after))
    with bar() as progress:
        task = progress.add_task("rows labelled", total=None)
        result = replays.backtest(
            past,
            after,
            family=family,
            budget=budget(past["instance_id"].nunique()) if "instance_id" in past else None,
            refit_hours=refit_hours,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    result.rows[["instance_id", "timestamp", "score", "alert", "risk", "level"]].to_parquet(out, index=False)
    count = len(episodes.episodes(result.rows))
    show(f"{len(result.rows):,} rows labelled, {len(result.refreshes)} models, {count} episodes: {out}")
    if result.early:
        show(f"{result.early:,} rows are older than their instance's history: the first model was fitted to later rows")
    if report is not None:
        show(f"report: {backtest_report.write(result, report, truth)}")


def _budget(
    pages_per_day: float | None, pages_per_instance_day: float | None, ordinary_days: bool, budget: float | None
) -> Callable[[int], PageBudget]:
    """Return the budget by the number of instances; raise BacktestError for options that contradict each other."""
    from riskwatch_ml.backtest.inputs import BacktestError
    from riskwatch_ml.model.page_budget import PageBudget, fleet_budget

    if budget is not None:
        raise BacktestError(
            f"--budget {budget:g} was in alerts per instance and day: give --pages-per-day, pages a day for the whole "
            f"fleet, or --pages-per-instance-day {budget:g} --ordinary-days for the same unit as before"
        )
    if pages_per_day is not None and pages_per_instance_day is not None:
        raise BacktestError("--pages-per-day and --pages-per-instance-day are two budgets: give one of them")
    if pages_per_instance_day is not None:
        return lambda instances: PageBudget(pages_per_instance_day, ordinary_days)
    return lambda instances: fleet_budget(instances, pages_per_day)._replace(
        **({"ordinary_days": True} if ordinary_days else {})
    )


def _check_paths(out: Path, report: Path | None, labels: Path | None) -> None:
    """Check before the long work that all results can be written; raise BacktestError."""
    from riskwatch_ml.backtest.inputs import BacktestError

    if out.is_dir():
        raise BacktestError(f"--out {out} is a folder: give the path of a Parquet file to write")
    if report is None and labels is not None:
        raise BacktestError("--labels are used by the report only: give --report FOLDER too")
    for option, folder in (("--out", out.parent), ("--report", report)):
        files = [] if folder is None else [path for path in (folder, *folder.parents) if path.is_file()]
        if files:
            raise BacktestError(f"{option}: {files[0]} is a file, not a folder: choose another path")


def _labels(path: Path) -> pd.DataFrame:
    """Read and check the labels in a Parquet file.

    Raises BacktestError, which names the file.
    """
    from riskwatch_ml.backtest.inputs import BacktestError, checked_labels

    labels = _read(path)
    try:
        return checked_labels(labels)
    except BacktestError as error:
        raise BacktestError(f"{path}: {error}") from None


def _announce(ignored: Mapping[Any, str]) -> None:
    """Print the columns that the backtest ignores, with the reasons."""
    from riskwatch_ml.core.listing import some

    columns = [f"{column} ({why})" for column, why in ignored.items()]
    if columns:
        show(f"columns not used: {some(columns, COLUMNS_SHOWN)}")


def _read(path: Path) -> pd.DataFrame:
    """Return the rows of a Parquet file.

    Raises BacktestError, which names the file, if it does not exist or cannot be read.
    """
    import pandas as pd
    import pyarrow as pa

    from riskwatch_ml.backtest.inputs import BacktestError

    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "does not exist"
        raise BacktestError(f"{path} {problem}: give the path of a Parquet file")
    try:
        return pd.read_parquet(path)
    except (pa.ArrowException, OSError) as error:
        first_line = str(error).splitlines()[0]
        raise BacktestError(
            f"{path} cannot be read as Parquet ({first_line}): write it with DataFrame.to_parquet"
        ) from None
