"""`riskwatch backtest`: what would Riskwatch have told about past metrics, had it run then?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from riskwatch_cli.console import bar, show
from riskwatch_cli.errors import STATE, explained

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

app = typer.Typer()
COLUMNS_TOLD = 8


@app.command()
def backtest(
    history: Annotated[
        Path, typer.Option(help="Parquet: instance_id (read as text), timestamp (UTC) and metrics, the past.")
    ],
    replay: Annotated[Path, typer.Option(help="Parquet of the same columns: what came next, to be labelled.")],
    out: Annotated[
        Path, typer.Option(help="Parquet to write: a score, alert, risk and level for each replay row, ids as text.")
    ],
    family: Annotated[str, typer.Option(help="auto, kmeans, dbscan, ensemble, hierarchical or kmedoids.")] = "auto",
    budget: Annotated[float, typer.Option(help="Alerts for each instance and day that are affordable.")] = 1.0,
    refit_hours: Annotated[float, typer.Option(help="Hours between two refreshes of the model.")] = 24,
    report: Annotated[Path | None, typer.Option(help="Folder for a report in Markdown with pictures.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Parquet: instance_id, timestamp, label (0/1), for the report.")
    ] = None,
) -> None:
    """Replay past metrics: what would Riskwatch have told, had it run then?"""
    with explained(Path(STATE), "stopped; nothing was written"):
        _backtest(history, replay, out, family, budget, refit_hours, report, labels)


def _backtest(
    history: Path,
    replay: Path,
    out: Path,
    family: str,
    budget: float,
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
            budget=budget,
            refit_hours=refit_hours,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    result.rows[["instance_id", "timestamp", "score", "alert", "risk", "level"]].to_parquet(out, index=False)
    found = episodes.episodes(result.rows)
    show(
        f"{len(result.rows):,} rows labelled, {len(result.refreshes)} models, {len(found)} episodes: {out}",
    )
    if result.early:
        text = f"{result.early:,} rows are older than their instance's history: the first model knew what came after"
        show(text)
    if report is not None:
        show(f"report: {backtest_report.write(result, report, truth)}")


def _check_paths(out: Path, report: Path | None, labels: Path | None) -> None:
    """Raise BacktestError, before the long work, where what is asked for could not be written."""
    from riskwatch_ml.backtest.inputs import BacktestError

    if out.is_dir():
        raise BacktestError(f"--out {out} is a folder: give the path of a Parquet file to write")
    if report is None and labels is not None:
        raise BacktestError("--labels are for the report: give --report FOLDER too")
    for option, folder in (("--out", out.parent), ("--report", report)):
        in_the_way = [] if folder is None else [each for each in (folder, *folder.parents) if each.is_file()]
        if in_the_way:
            raise BacktestError(f"{option}: {in_the_way[0]} is a file, not a folder: choose another path")


def _labels(path: Path) -> pd.DataFrame:
    """The labels in a Parquet file, checked; raises BacktestError, naming the file."""
    from riskwatch_ml.backtest.inputs import BacktestError, checked_labels

    labels = _read(path)
    try:
        return checked_labels(labels)
    except BacktestError as error:
        raise BacktestError(f"{path}: {error}") from None


def _announce(left: Mapping[Any, str]) -> None:
    """Say which columns are not watched, and why."""
    told = [f"{column} ({why})" for column, why in list(left.items())[:COLUMNS_TOLD]]
    more = f" and {len(left) - COLUMNS_TOLD} more" if len(left) > COLUMNS_TOLD else ""
    if told:
        text = f"not watched: {', '.join(told)}{more}"
        show(text)


def _read(path: Path) -> pd.DataFrame:
    """The rows of a Parquet file; raises BacktestError, naming the file, where there is none or it cannot be read."""
    import pandas as pd
    import pyarrow as pa

    from riskwatch_ml.backtest.inputs import BacktestError

    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise BacktestError(f"{path} {found}: give the path of a Parquet file")
    try:
        return pd.read_parquet(path)
    except (pa.ArrowException, OSError) as error:
        first = str(error).splitlines()[0]
        raise BacktestError(f"{path} cannot be read as Parquet ({first}): write it with DataFrame.to_parquet") from None
