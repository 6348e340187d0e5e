"""From `raw/` to `validated/` and `quarantine/`: the one body behind the hourly export and the import of a file.

A layer can hold several parts of one hour, each written by one source. A source judges and replaces its own part only;
a row that another source has validated already is quarantined, so that training finds every instance and time once.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from riskwatch_expectations import reference
from riskwatch_expectations.validate import REASONS, Validation, validate
from riskwatch_ml.schema import metric_rows
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from collections.abc import Iterable

    from riskwatch_expectations.validate import Interval
    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.storage.bucket import Store

EXPORT_PART = "default"
CSV_PART = "csv"
TAKEN = "a row of the same instance and time was validated from another source"

# Findings of one kind that the log names; a fleet may have thousands.
SHOWN = 20

_KEYS = ["instance_id", "timestamp"]
_log = logging.getLogger(__name__)
# Outside of Airflow nobody has set up logging: the command prints the counts itself.
_log.addHandler(logging.NullHandler())


def split_interval(
    store: Store, catalogue: Catalogue, interval: Interval, part: str = EXPORT_PART, known: Iterable[str] = ()
) -> Validation:
    """Hold a part's raw rows of an interval against the suites, and make the outcome the content of both layers.

    `known` are instances that should have reported, beside those that did shortly before the interval.

    Raises
    ------
    ValidationError
        The rows are no table of metric rows; nothing was written.
    """
    start, end = interval.start, interval.end
    rows = store.read_hours(keys.RAW, start, end, part=part)
    # An hour kept in part may carry columns of an older catalogue: what is judged are the columns of this one.
    rows = rows[[name for name in metric_rows.columns(catalogue) if name in rows.columns]]
    outcome = validate(rows, catalogue, interval, reference.read(store, catalogue, start, known, part))
    others = store.read_hours(keys.VALIDATED, start, end, without=part)
    outcome = _without(outcome, others)
    store.write_hours(keys.VALIDATED, outcome.validated, start, end, part)
    store.write_hours(keys.QUARANTINE, outcome.quarantined, start, end, part)
    _tell(outcome)
    return outcome


def _without(outcome: Validation, others: pd.DataFrame) -> Validation:
    """Move the validated rows that `others` has too into the quarantine."""
    if others.empty:
        return outcome
    taken = pd.MultiIndex.from_frame(outcome.validated[_KEYS]).isin(pd.MultiIndex.from_frame(others[_KEYS]))
    if not taken.any():
        return outcome
    moved = outcome.validated[taken].assign(**{REASONS: TAKEN})
    moved = moved.astype({REASONS: outcome.quarantined[REASONS].dtype})
    return replace(
        outcome,
        validated=outcome.validated[~taken].reset_index(drop=True),
        quarantined=pd.concat([outcome.quarantined, moved], ignore_index=True),
        reasons={**outcome.reasons, TAKEN: len(moved)},
    )


def _tell(outcome: Validation) -> None:
    _log.info(
        "%d rows: %d validated, %d quarantined, %d expectations",
        *(outcome.rows, len(outcome.validated), len(outcome.quarantined), len(outcome.outcomes)),
    )
    for reason, count in outcome.reasons.items():
        _log.warning("quarantined %d rows: %s", count, reason)
    told: Counter[str] = Counter()
    for finding in outcome.findings:
        told[finding.check] += 1
        if told[finding.check] <= SHOWN:
            _log.log(logging.INFO if finding.severity == "info" else logging.WARNING, "%s", finding.text)
    for check, count in told.items():
        if count > SHOWN:
            _log.warning("%s: %d more, %d in all", check, count - SHOWN, count)
