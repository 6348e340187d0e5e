"""Settings of paging in the table, written by each training: they change without a new model.

There is one item for the fleet, pk ``paging``, sk ``fleet``, with its budget in pages a day and the fuse, and one for
each model, pk ``paging``, sk the model id, with its paging threshold. Without an item, the threshold of the model's
document and ``DEFAULT_FUSE`` count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from riskwatch_lambda.items import DamagedItemError, count, log_damaged, parse_item, real
from riskwatch_lambda.table import number, update

if TYPE_CHECKING:
    from collections.abc import Iterable

    from riskwatch_lambda.items import Report
    from riskwatch_lambda.table import Attributes, Table

PARTITION, FLEET = "paging", "fleet"
DEFAULT_FUSE = 100
FUSE_FACTOR = 3  # of the budget of pages a day
LARGEST = 1_000_000


def key(name: str) -> Attributes:
    """Return the key of the item of a model id, or of the fleet."""
    return {"pk": {"S": PARTITION}, "sk": {"S": name}}


def read_threshold(item: Attributes) -> float:
    """Return the paging threshold of an item; raises DamagedItemError or another ValueError."""
    threshold = real(item, "paging_threshold")
    if threshold is None or not 1 <= threshold < LARGEST:
        raise DamagedItemError(f"paging_threshold is {threshold}, expected a score of at least 1")
    return threshold


def read_fuse(table: Table, report: Report = log_damaged) -> int:
    """Return the pages a day after which only severe openings page; raises TableError."""
    for item in table.get([key(FLEET)]):
        fuse = parse_item(item, lambda found: count(found, "fuse", LARGEST), report)
        if fuse:
            return fuse
    return DEFAULT_FUSE


def write(table: Table, pages_per_day: float, thresholds: Iterable[tuple[str, float]] = ()) -> None:
    """Write the budget and the fuse of the fleet, and the paging thresholds of models by id; raises TableError."""
    fuse = max(1, round(FUSE_FACTOR * pages_per_day))
    table.update(update(key(FLEET), {"pages_per_day": {"N": f"{pages_per_day:.4f}"}, "fuse": number(fuse)}))
    for model_id, threshold in thresholds:
        table.update(update(key(model_id), {"paging_threshold": {"N": f"{threshold:.4f}"}}))
