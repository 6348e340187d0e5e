"""Holding metric rows against the suites: what passes is validated, what fails is quarantined with its reasons.

Three kinds of outcome. *Critical*: the table is not one of metric rows, nothing of it is used. A row that fails a rule
of its own is quarantined. What no single row is at fault for (a gap, a stuck metric, another distribution) is a
finding, a warning or a note, and the rows stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from riskwatch_expectations import engine
from riskwatch_expectations.reference import Reference
from riskwatch_ml.core import clock
from riskwatch_ml.core.errors import UserInputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from riskwatch_ml.schema.catalogue import Catalogue

REASONS = "reasons"


class ValidationError(UserInputError):
    """The table as a whole is not what it must be; the message names the expectation and what was seen."""


@dataclass(frozen=True)
class Interval:
    """The interval that the rows were read for, aware, and their period in seconds."""

    start: datetime
    end: datetime
    period_s: int


class Finding(NamedTuple):
    """What no single row is at fault for. `severity` is warning or info; `check` names the kind."""

    check: str
    severity: str
    text: str
    instance_id: str | None = None
    metric: str | None = None


@dataclass(frozen=True)
class Validation:
    """Rows in = validated + quarantined.

    `quarantined` has a further text column `reasons`, the reasons joined by "; ". `reasons` counts rows per reason.
    `outcomes` are the results of Great Expectations.
    """

    validated: pd.DataFrame
    quarantined: pd.DataFrame
    reasons: Mapping[str, int]
    findings: Sequence[Finding] = ()
    outcomes: Sequence[Any] = ()

    @property
    def rows(self) -> int:
        """How many rows came in."""
        return len(self.validated) + len(self.quarantined)


def validate(
    rows: pd.DataFrame, catalogue: Catalogue, interval: Interval, reference: Reference | None = None
) -> Validation:
    """Hold metric rows, ordered by instance and time, against all suites.

    Of several rows with the same instance and time the first stays and the others are quarantined. Row order is kept.
    Without a reference nothing is compared with the time before.

    Raises
    ------
    ValidationError
        A critical, table-level expectation failed: columns, types, order, or no rows at all.
    """
    running = engine.Engine()
    split = _split(running, rows.reset_index(drop=True), catalogue, interval)
    findings = () if split.validated.empty else _findings(running, split.validated, catalogue, interval, reference)
    return Validation(split.validated, split.quarantined, split.reasons, findings, running.results)


def split_rows(rows: pd.DataFrame, catalogue: Catalogue, interval: Interval) -> Validation:
    """Hold metric rows against what is asked of a table and of each row alone; raises ValidationError as `validate`."""
    return _split(engine.Engine(), rows.reset_index(drop=True), catalogue, interval)


def _split(running: engine.Engine, frame: pd.DataFrame, catalogue: Catalogue, interval: Interval) -> Validation:
    from riskwatch_expectations.suites import rows as metrics
    from riskwatch_expectations.suites import schema

    _gate(running.run(frame, schema.suite(catalogue)))
    start, end = clock.utc(interval.start), clock.utc(interval.end)
    results = running.run(
        metrics.table(frame, catalogue, interval.period_s), metrics.suite(catalogue, start, end, interval.period_s)
    )
    reasons, counts = _reasons(results, frame)
    bad = pd.Series([bool(found) for found in reasons], index=frame.index, dtype=bool)
    quarantined = frame[bad].reset_index(drop=True)
    quarantined[REASONS] = pd.Series(["; ".join(found) for found in reasons if found], dtype="str")
    return Validation(frame[~bad].reset_index(drop=True), quarantined, counts)


def _gate(results: Sequence[Any]) -> None:
    failed = [result for result in results if not result.success]
    # A column that is not there breaks the expectations on it too: what could be observed says more than those.
    told = [result for result in failed if not engine.raised(result)] or failed
    if told:
        seen = "; ".join(f"{engine.title(result)}: {engine.observed(result)}" for result in told)
        raise ValidationError(f"the rows are not a table of metric rows: {seen}")


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
        places, meta = engine.places(result), engine.meta(result)
        if "broken" in meta:
            row = frame.loc[places[0]]
            raise ValidationError(
                f"{meta['broken']}: {row['instance_id']} at {row['timestamp']} comes after a later one"
            )
        if meta["reason"] == REPEATED:
            places = [place for place in places if repeated[place]]
        for place in places:
            reasons[place].append(meta["reason"])
        counts[meta["reason"]] = len(places)
    return reasons, counts


def _findings(
    running: engine.Engine, rows: pd.DataFrame, catalogue: Catalogue, interval: Interval, reference: Reference | None
) -> tuple[Finding, ...]:
    from riskwatch_expectations.suites import fleet, instances, series

    before = reference or Reference()
    of_instances = instances.table(rows, before.rows, before.expected, interval.end, interval.period_s)
    of_series = series.table(rows, before.rows, catalogue)
    periods = (interval.end - interval.start).total_seconds() // interval.period_s
    found: list[Finding] = []
    for result in _failed(running.run(rows, fleet.suite(catalogue, before.rows, int(periods) * len(of_instances)))):
        seen = result.result.get("observed_value")
        if seen is not None:
            meta = engine.meta(result)
            found.append(Finding(meta["check"], _severity(result), meta["finding"].format(observed=seen)))
    for frame, suite in ((of_instances, instances.suite()), (of_series, series.suite())):
        if frame.empty:
            continue
        for result in _failed(running.run(frame, suite)):
            meta = engine.meta(result)
            for place in engine.places(result):
                row = frame.loc[place].to_dict()
                text = meta["finding"].format(**row)
                found.append(Finding(meta["check"], _severity(result), text, row["instance_id"], row.get("metric")))
    return tuple(found)


def _severity(result: Any) -> str:
    return str(result.expectation_config.severity.value)
