"""The validation pipeline: from `raw/` to `validated/` and `quarantine/`.

The hourly export and the import of a CSV file share it. A layer can have several parts of one hour, each written by one
source. A source validates and replaces its own part only. A row that another source has already validated is
quarantined, so that training reads each instance and time once. Refused values of validated rows go to
`quarantine/values/`.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from riskwatch_expectations import reference, refused_values, vanished
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
RESULTS = (keys.VALIDATED, keys.QUARANTINE, keys.REFUSED_VALUES)
"""The layers that a validation writes, each for one kind."""

TAKEN = "a row of the same instance and time was validated from another source"

# Findings of one kind that the log lists; a large fleet may have thousands.
SHOWN = 20

_KEYS = ["instance_id", "timestamp"]
_log = logging.getLogger(__name__)
# Outside Airflow, logging is not configured: the command prints the counts itself.
_log.addHandler(logging.NullHandler())


def split_interval(
    store: Store, catalogue: Catalogue, interval: Interval, part: str = EXPORT_PART, known: Iterable[str] = ()
) -> Validation:
    """Validate the raw rows of a part and write the layers `RESULTS` for the interval.

    `known` are further instances that should have reported, besides those that did shortly before the interval.

    Raises
    ------
    ValidationError
        The rows are not a table of metric rows; nothing was written.
    """
    start, end = interval.start, interval.end
    rows = store.read_hours(keys.of_kind(keys.RAW, catalogue), start, end, part=part)
    # An hour that is kept in part may have columns of an older catalogue: only the current columns are validated.
    rows = rows[[name for name in metric_rows.columns(catalogue) if name in rows.columns]]
    outcome = validate(rows, catalogue, interval, reference.read(store, catalogue, start, known, part))
    validated, quarantine, values = (keys.of_kind(layer, catalogue) for layer in RESULTS)
    others = store.read_hours(validated, start, end, without=part)
    outcome = vanished.remember(store, catalogue, interval, part, _without(outcome, others))
    store.write_hours(validated, outcome.validated, start, end, part)
    store.write_hours(quarantine, outcome.quarantined, start, end, part)
    store.write_hours(values, outcome.refused, start, end, part)
    _log_findings(outcome)
    return outcome


def _without(outcome: Validation, others: pd.DataFrame) -> Validation:
    """Quarantine the validated rows that `others` contains too."""
    if others.empty:
        return outcome
    taken = pd.MultiIndex.from_frame(outcome.validated[_KEYS]).isin(pd.MultiIndex.from_frame(others[_KEYS]))
    if not taken.any():
        return outcome
    # A quarantined row has all its values.
    moved = refused_values.put_back(outcome.validated[taken], outcome.refused).assign(**{REASONS: TAKEN})
    moved = moved.astype({REASONS: outcome.quarantined[REASONS].dtype})
    return replace(
        outcome,
        validated=outcome.validated[~taken].reset_index(drop=True),
        refused=outcome.refused[~refused_values.of_rows(outcome.refused, moved)].reset_index(drop=True),
        quarantined=pd.concat([outcome.quarantined, moved], ignore_index=True),
        reasons={**outcome.reasons, TAKEN: len(moved)},
    )


def _log_findings(outcome: Validation) -> None:
    _log.info(
        "%d rows: %d validated, %d quarantined, %d expectations",
        *(outcome.rows, len(outcome.validated), len(outcome.quarantined), len(outcome.outcomes)),
    )
    for reason, count in outcome.reasons.items():
        _log.warning("quarantined %d rows: %s", count, reason)
    _log.info("values: %d kept, %d refused", outcome.values_kept, outcome.values_refused)
    for reason, count in outcome.value_reasons.items():
        _log.warning("refused %d values, their rows stay: %s", count, reason)
    counts: Counter[str] = Counter()
    for finding in outcome.findings:
        counts[finding.check] += 1
        if counts[finding.check] <= SHOWN:
            _log.log(logging.INFO if finding.severity == "info" else logging.WARNING, "%s", finding.text)
    for check, count in counts.items():
        if count > SHOWN:
            _log.warning("%s: %d more, %d in total", check, count - SHOWN, count)
