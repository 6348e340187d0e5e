"""Running Great Expectations over metric rows: what passes is validated, what fails is quarantined with its reasons."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from ml import clock

if TYPE_CHECKING:
    from datetime import datetime

    from ml.catalogue import Catalogue

REASONS = "reasons"


class ValidationError(ValueError):
    """The table as a whole is not what it must be; the message names the expectation and what was seen."""


@dataclass(frozen=True)
class Interval:
    """The interval that the rows were read for, aware, and their period in seconds."""

    start: datetime
    end: datetime
    period_s: int


@dataclass(frozen=True)
class Validation:
    """Rows in = validated + quarantined.

    `quarantined` has a further text column `reasons`, the reasons joined by "; ". `results` has counts per reason and
    the names of what was only reported.
    """

    validated: pd.DataFrame
    quarantined: pd.DataFrame
    results: dict[str, Any]


def validate(rows: pd.DataFrame, catalogue: Catalogue, interval: Interval) -> Validation:
    """Hold metric rows against the suites.

    Of several rows with the same instance and time the first stays and the others are quarantined. Row order is kept.

    Raises
    ------
    ValidationError
        A critical, table-level expectation failed: columns, types or no rows at all.
    """
    _quiet()
    from expectations import metrics, schema

    frame = rows.reset_index(drop=True)
    _gate(_run(frame, schema.suite(catalogue)))
    outcome = _run(
        _derived(frame, catalogue, interval.period_s),
        metrics.suite(catalogue, clock.utc(interval.start), clock.utc(interval.end), interval.period_s),
    )
    reasons, counts, reported = _reasons(outcome, frame)
    bad = pd.Series([bool(found) for found in reasons], index=frame.index, dtype=bool)
    quarantined = frame[bad].reset_index(drop=True)
    quarantined[REASONS] = pd.Series(["; ".join(found) for found in reasons if found], dtype="str")
    validated = frame[~bad].reset_index(drop=True)
    results = {
        "rows": len(frame),
        "validated": len(validated),
        "quarantined": len(quarantined),
        "expectations": len(outcome.results),
        "reasons": counts,
        "reported": reported,
    }
    return Validation(validated, quarantined, results)


def _quiet() -> None:
    # In a process that has loaded Airflow, importing Great Expectations writes hundreds of INFO lines into the task's
    # log, most of them from this module, which sets a level of its own.
    for name in ("great_expectations", "great_expectations._docs_decorators"):
        logging.getLogger(name).setLevel(logging.WARNING)
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")


def _run(frame: pd.DataFrame, suite: Any) -> Any:
    import great_expectations as gx

    from expectations import metrics

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_pandas("rows").add_dataframe_asset("metric_rows")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame})
    keyed = {"unexpected_index_column_names": [metrics.ROW]} if metrics.ROW in frame else {}
    # Batch.validate stores nothing, which a result holding a NumPy value would not survive.
    return batch.validate(suite, result_format={"result_format": "COMPLETE", **keyed})


def _gate(outcome: Any) -> None:
    failed = [result for result in outcome.results if not result.success]
    # A column that is not there breaks the expectations on it too: what could be observed says more than those.
    told = [result for result in failed if not _raised(result)] or failed
    if told:
        seen = "; ".join(f"{_title(result)}: {_seen(result)}" for result in told)
        raise ValidationError(f"the rows are not a table of metric rows: {seen}")


def _raised(result: Any) -> str | None:
    """Return the message of the exception that kept an expectation from being evaluated, None where there was none."""
    information = result.exception_info or {}
    entries = [information] if "raised_exception" in information else list(information.values())
    return next((str(entry["exception_message"]) for entry in entries if entry.get("raised_exception")), None)


def _seen(result: Any) -> str:
    return _raised(result) or f"observed {result.result.get('observed_value')}"


def _derived(frame: pd.DataFrame, catalogue: Catalogue, period_s: int) -> pd.DataFrame:
    from expectations import metrics

    milliseconds = frame["timestamp"].astype("datetime64[ms, UTC]").astype("int64")
    off_grid = (milliseconds % (period_s * 1000)).where(frame["timestamp"].notna(), 0)
    present = frame[list(catalogue.names)].notna().sum(axis=1)
    return frame.assign(**{metrics.OFF_GRID: off_grid, metrics.PRESENT: present, metrics.ROW: range(len(frame))})


def _reasons(outcome: Any, frame: pd.DataFrame) -> tuple[list[list[str]], dict[str, int], list[str]]:
    from expectations import metrics

    repeated = frame.duplicated(["instance_id", "timestamp"], keep="first").to_numpy()
    reasons: list[list[str]] = [[] for _ in range(len(frame))]
    counts: dict[str, int] = {}
    reported: list[str] = []
    for result in outcome.results:
        if result.success:
            continue
        if _raised(result):
            raise ValidationError(f"{_title(result)} could not be evaluated: {_raised(result)}")
        reason = (result.expectation_config.meta or {}).get("reason")
        if reason is None:
            reported.append(f"{_title(result)}: observed {result.result.get('observed_value')}")
            continue
        places = [item[metrics.ROW] for item in result.result["unexpected_index_list"]]
        if result.expectation_config.type == "expect_compound_columns_to_be_unique":
            places = [place for place in places if repeated[place]]
        for place in places:
            reasons[place].append(reason)
        counts[reason] = len(places)
    return reasons, counts, reported


def _title(result: Any) -> str:
    config = result.expectation_config
    column = config.kwargs.get("column")
    return f"{config.type}({column})" if column else str(config.type)
