"""Validation of metric rows by the suites.

There are four kinds of failure. *Critical*: the table is not a table of metric rows, and none of it is used. *Value*:
an impossible value is refused with its reason, and its row stays without it. *Row*: a row that fails a row-level rule,
or that has mostly impossible values, is quarantined with its reasons. *Finding*: a problem that no single row causes (a
gap, a stuck metric, another distribution) is a warning or a note, and the rows stay.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from riskwatch_expectations import engine, refused_values
from riskwatch_expectations.reference import Reference
from riskwatch_ml.core import clock
from riskwatch_ml.core.errors import UserInputError
from riskwatch_ml.schema import metric_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from riskwatch_ml.core.arrays import BoolArray
    from riskwatch_ml.schema.catalogue import Catalogue

REASONS = "reasons"


class ValidationError(UserInputError):
    """The table as a whole is invalid.

    The message names the expectation and the observed value.
    """


@dataclass(frozen=True)
class Interval:
    """The interval of the rows (aware datetimes) and their period in seconds."""

    start: datetime
    end: datetime
    period_s: int


VANISHED, UNIT = "vanished", "unit"  # checks whose findings are the same an hour later


class Finding(NamedTuple):
    """A problem that no single row causes.

    `severity` is warning or info; `check` names the kind.
    """

    check: str
    severity: str
    text: str
    instance_id: str | None = None
    metric: str | None = None


@dataclass(frozen=True)
class Validation:
    """The result of a validation.

    Rows in = `validated` + `quarantined`, and values in = `values_kept` + `values_refused`. `quarantined` has an
    additional text column `reasons`, the reasons joined by "; ". `reasons` counts rows by reason. `refused` are the
    impossible values of validated rows, as `riskwatch_expectations.refused_values` describes them. `outcomes` are the
    results of Great Expectations.
    """

    validated: pd.DataFrame
    quarantined: pd.DataFrame
    reasons: Mapping[str, int]
    refused: pd.DataFrame
    findings: Sequence[Finding] = ()
    outcomes: Sequence[Any] = ()

    @property
    def rows(self) -> int:
        """The number of input rows."""
        return len(self.validated) + len(self.quarantined)

    @property
    def values_kept(self) -> int:
        """The number of values of validated rows."""
        return metric_rows.count_values(self.validated)

    @property
    def values_refused(self) -> int:
        """The number of refused values; a quarantined row refuses all its values."""
        return len(self.refused) + metric_rows.count_values(self.quarantined)

    @property
    def value_reasons(self) -> dict[str, int]:
        """Number of refused values of validated rows by reason, which names the metric."""
        return {str(reason): int(count) for reason, count in self.refused["reason"].value_counts().items()}


def validate(
    rows: pd.DataFrame, catalogue: Catalogue, interval: Interval, reference: Reference | None = None
) -> Validation:
    """Validate metric rows that arrive now, ordered by instance and time, by all suites.

    Of several rows with the same instance and time, the first stays and the others are quarantined. Row order is kept.
    Without a reference, the rows are not compared with earlier ones.

    Raises
    ------
    ValidationError
        A critical, table-level expectation failed: columns, types, order, or no rows at all.
    """
    running = engine.Engine()
    split = _split(running, rows.reset_index(drop=True), catalogue, interval)
    findings = () if split.validated.empty else _findings(running, split.validated, catalogue, interval, reference)
    return replace(split, findings=findings, outcomes=running.results)


def split_rows(rows: pd.DataFrame, catalogue: Catalogue, interval: Interval) -> Validation:
    """Validate metric rows by the suites of tables, values and rows only.

    Raises ValidationError like `validate`.
    """
    return _split(engine.Engine(), rows.reset_index(drop=True), catalogue, interval)


def _split(running: engine.Engine, frame: pd.DataFrame, catalogue: Catalogue, interval: Interval) -> Validation:
    from riskwatch_expectations.suites import rows as row_suite
    from riskwatch_expectations.suites import schema, values

    _gate(running.run(frame, schema.suite(catalogue)))
    start, end = clock.utc(interval.start), clock.utc(interval.end)
    impossible, value_reasons = _impossible(running.run(frame, values.suite(catalogue)), frame, catalogue)
    costs_row = metric_rows.find_refused_rows(frame[list(catalogue.names)].to_numpy(dtype=np.float64), impossible)
    results = running.run(
        row_suite.table(frame, catalogue, interval.period_s, clock.now(), costs_row),
        row_suite.suite(start, end, interval.period_s),
    )
    reasons, counts = _reasons(results, frame)
    invalid = np.array([bool(texts) for texts in reasons], dtype=bool)
    # A quarantined row also names its impossible values.
    for row, column in zip(*np.nonzero(impossible & invalid[:, None]), strict=True):
        reason = value_reasons[catalogue.names[column]]
        reasons[row].append(reason)
        counts[reason] = counts.get(reason, 0) + 1
    quarantined = frame[invalid].reset_index(drop=True)
    quarantined[REASONS] = pd.Series(["; ".join(texts) for texts in reasons if texts], dtype="str")
    validated, refused = refused_values.take_out(frame[~invalid], impossible[~invalid], value_reasons)
    return Validation(validated.reset_index(drop=True), quarantined, counts, refused)


def _impossible(results: Sequence[Any], frame: pd.DataFrame, catalogue: Catalogue) -> tuple[BoolArray, dict[str, str]]:
    """Return a mask of the values that failed, (n, d), and the reason for each metric with one."""
    impossible = np.zeros((len(frame), len(catalogue.names)), dtype=bool)
    reasons = {}
    for result in _failed(results):
        meta = engine.meta(result)
        impossible[engine.places(result), catalogue.names.index(meta["metric"])] = True
        reasons[meta["metric"]] = meta["reason"]
    return impossible, reasons


def _gate(results: Sequence[Any]) -> None:
    failed = [result for result in results if not result.success]
    # A missing column also breaks the expectations on that column: results with an observed value say more.
    reported = [result for result in failed if not engine.raised(result)] or failed
    if reported:
        observed = "; ".join(f"{engine.title(result)}: {engine.observed(result)}" for result in reported)
        raise ValidationError(f"the rows are not a table of metric rows: {observed}")


def _failed(results: Sequence[Any]) -> list[Any]:
    failed = [result for result in results if not result.success]
    for result in failed:
        if engine.raised(result):
            raise ValidationError(f"{engine.title(result)} could not be evaluated: {engine.raised(result)}")
    return failed


def _reasons(results: Sequence[Any], frame: pd.DataFrame) -> tuple[list[list[str]], dict[str, int]]:
    from riskwatch_expectations.suites.rows import REPEATED

    repeated = frame.duplicated(["instance_id", "timestamp"], keep="first").to_numpy()
    reasons: list[list[str]] = [[] for _ in range(len(frame))]
    counts: dict[str, int] = {}
    for result in _failed(results):
        positions, meta = engine.places(result), engine.meta(result)
        if "broken" in meta:
            row = frame.loc[positions[0]]
            raise ValidationError(
                f"{meta['broken']}: {row['instance_id']} at {row['timestamp']} comes after a later one"
            )
        if meta["reason"] == REPEATED:
            positions = [position for position in positions if repeated[position]]
        for position in positions:
            reasons[position].append(meta["reason"])
        counts[meta["reason"]] = len(positions)
    return reasons, counts


def _findings(
    running: engine.Engine, rows: pd.DataFrame, catalogue: Catalogue, interval: Interval, reference: Reference | None
) -> tuple[Finding, ...]:
    from riskwatch_expectations.suites import fleet, instances, series

    before = reference or Reference()
    of_instances = instances.table(rows, before.rows, before.expected, interval.end, interval.period_s)
    of_series = series.table(rows, before.rows, catalogue)
    periods = (interval.end - interval.start).total_seconds() // interval.period_s
    findings: list[Finding] = []
    for result in _failed(running.run(rows, fleet.suite(catalogue, before.rows, int(periods) * len(of_instances)))):
        observed = result.result.get("observed_value")
        if observed is not None:
            meta = engine.meta(result)
            findings.append(Finding(meta["check"], _severity(result), meta["finding"].format(observed=observed)))
    for frame, suite in ((of_instances, instances.suite()), (of_series, series.suite())):
        if frame.empty:
            continue
        for result in _failed(running.run(frame, suite)):
            meta = engine.meta(result)
            for position in engine.places(result):
                row = frame.loc[position].to_dict()
                text = meta["finding"].format(**row)
                findings.append(Finding(meta["check"], _severity(result), text, row["instance_id"], row.get("metric")))
    return tuple(findings)


def _severity(result: Any) -> str:
    return str(result.expectation_config.severity.value)
