"""Newest row of each instance that the function has labelled: a row that is not newer decides nothing.

An instance without an episode has no state item, and one write for each instance and batch would cost more than
everything else. A mark item has the newest rows of a quarter of the instances of a Kinesis shard: pk ``seen#<shard>``,
sk the number of the quarter. ``rows`` is compressed JSON, ``{"<epoch ms>": [instance, ...]}``.

One invocation at a time reads a shard, so no write has a condition. A lost or damaged mark only means that a row which
comes again may count again. Rows that are too old to count need no mark.
"""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING

from riskwatch_lambda.arrival import OLD_LIMIT_MS, is_ahead, is_old
from riskwatch_lambda.items import LATEST_MS, DamagedItemError, log_damaged, parse_item
from riskwatch_lambda.table import EXPIRES, Table, number, update

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from riskwatch_lambda.items import Report
    from riskwatch_lambda.table import Attributes, Changes

# An item holds at most 400 KB, which is about 35,000 instances.
PARTS = 4
# Bytes of the uncompressed rows of one item.
LARGEST = 8 * 1024 * 1024


class Seen:
    """The marks of one shard that a batch needs; times in epoch milliseconds."""

    def __init__(self, shard: str, parts: Mapping[int, Mapping[str, int]]) -> None:
        self.shard = shard
        self.parts = parts

    def newest_ms(self, instance_id: str) -> int | None:
        """Return the time of the newest labelled row of an instance, None if it is unknown."""
        return self.parts.get(_part(instance_id), {}).get(instance_id)


class SeenRows:
    """The marks in the table; ``report`` gets each damaged item that is met."""

    def __init__(self, table: Table, report: Report = log_damaged) -> None:
        self._table = table
        self._report = report

    def read(self, shard: str, instance_ids: Iterable[str], clock_ms: int) -> Seen:
        """Return the marks for some instances of a shard; raises TableError.

        Marks ahead of ``clock_ms`` (epoch ms) are left out: they would mute their instances until their date.
        """
        wanted = sorted(set(map(_part, instance_ids)))
        parts: dict[int, Mapping[str, int]] = {part: {} for part in wanted}
        for item in self._table.get(_key(shard, part) for part in wanted):
            marks = parse_item(item, read_marks, self._report)
            if marks is not None:
                parts[int(item["sk"]["S"])] = {name: ms for name, ms in marks.items() if not is_ahead(ms, clock_ms)}
        return Seen(shard, parts)

    def advance(self, seen: Seen, newest: Mapping[str, int], arrived_ms: int) -> None:
        """Write the newest rows of instances (epoch ms) that are newer than the marks.

        ``arrived_ms`` is the newest arrival: older marks than it needs are dropped. Raises TableError.
        """
        moved: dict[int, dict[str, int]] = {}
        for instance_id, ms in newest.items():
            known = seen.newest_ms(instance_id)
            if (known is None or ms > known) and not is_old(ms, arrived_ms):
                moved.setdefault(_part(instance_id), {})[instance_id] = ms
        for part, changed in sorted(moved.items()):
            both = {**seen.parts.get(part, {}), **changed}
            needed = {name: ms for name, ms in both.items() if not is_old(ms, arrived_ms)}
            expires_s = (max(needed.values()) + 2 * OLD_LIMIT_MS) // 1000
            values: Changes = {"rows": {"B": encode(needed)}, EXPIRES: number(expires_s)}
            self._table.update(update(_key(seen.shard, part), values))


def encode(marks: Mapping[str, int]) -> bytes:
    """Return marks as the bytes of the attribute ``rows``."""
    by_time: dict[str, list[str]] = {}
    for instance_id, ms in sorted(marks.items()):
        by_time.setdefault(str(ms), []).append(instance_id)
    return zlib.compress(json.dumps(by_time, separators=(",", ":")).encode())


def read_marks(item: Attributes) -> dict[str, int]:
    """Return the newest rows (epoch ms) of a mark item; raises DamagedItemError or another ValueError."""
    content = item.get("rows", {}).get("B")
    if not isinstance(content, bytes):
        raise DamagedItemError("rows has no bytes")
    try:
        text = zlib.decompressobj().decompress(content, LARGEST)
    except zlib.error as error:
        raise DamagedItemError(f"rows is not compressed text: {error}") from error
    by_time = json.loads(text)
    marks = {name: int(ms) for ms, names in by_time.items() for name in names}
    if not all(isinstance(name, str) and 0 <= ms <= LATEST_MS for name, ms in marks.items()):
        raise DamagedItemError("rows has an impossible name or time")
    return marks


def _part(instance_id: str) -> int:
    return zlib.crc32(instance_id.encode("utf-8", "surrogatepass")) % PARTS


def _key(shard: str, part: int) -> Attributes:
    return {"pk": {"S": f"seen#{shard}"}, "sk": {"S": str(part)}}
