"""Data problems that last: one message to the operations topic for each change, not for each hour.

Metrics that are missing, that vanished, or that changed their unit stay so until a person acts. The counts of each
export are in its report; the bucket keeps which metrics the last message named.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from riskwatch_airflow import operations
from riskwatch_expectations.validate import UNIT, VANISHED
from riskwatch_ml.core.listing import some
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from riskwatch_expectations.validate import Finding
    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.storage.bucket import Store

SUBJECT = "Riskwatch: the data of the fleet has changed"
ADVICE = "The log of the task fetch of export_metrics names instances, dimensions and the cure."
MISSING = "missing"
LASTING = (VANISHED, UNIT)
NAMES = 5
CURRENT = timedelta(hours=2)  # an interval that ended longer ago says nothing about now


def problems(missing: Mapping[str, int], instances: Mapping[str, int], findings: Iterable[Finding]) -> dict[str, str]:
    """Return the lasting problems in words, by check and metric, for example `missing memory_utilization`.

    `missing` counts the instances without a value by metric, of `instances` that report by kind. A metric of another
    kind than the first is named like `rds/read_iops`; the first kind is the empty text.
    """
    texts = {
        f"{MISSING} {metric}": f"{metric} is missing for {count} of {instances[metric.rpartition('/')[0]]} instances"
        for metric, count in missing.items()
    }
    names: dict[tuple[str, str], list[str]] = {}
    for finding in findings:
        if finding.check in LASTING and finding.metric is not None and finding.instance_id is not None:
            names.setdefault((finding.check, finding.metric), []).append(finding.instance_id)
    for (check, metric), of in names.items():
        what = "vanished for" if check == VANISHED else "may have changed its unit for"
        count = f"{len(of)} instance{'' if len(of) == 1 else 's'}"
        texts[f"{check} {metric}"] = f"{metric} {what} {count} ({some(sorted(of), NAMES)})"
    return dict(sorted(texts.items()))


def report(config: Settings, store: Store, current: Mapping[str, str]) -> None:
    """Send a message if problems came or went since the last one; a refused message is sent by the next export."""
    operations.report_changes(config, store, keys.REPORTED_HEALTH, SUBJECT, current, ADVICE)
