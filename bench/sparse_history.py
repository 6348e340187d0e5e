"""What a sparse history costs: one row a day of many years, beside the same rows in succession.

    python -m bench.sparse_history [--rows N] [--json FILE]

The function labels a record of each form, of an instance that has an episode, and the compaction merges the labelled
rows. A third figure is the cost of the marks of the newest rows: the function labels 50,000 quiet rows of 200 instances
with and without them. Each figure is a ratio of two times of the same run. A time is CPU time plus 6 ms for each call
of DynamoDB or S3, which are in memory here: other work on the machine does not change it.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import json
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.batch import Services, kinesis_event, made
from bench.compaction import Folder
from riskwatch_lambda.alerting.budget import Budget, Limits
from riskwatch_lambda.alerting.maintenance import MaintenanceWindows
from riskwatch_lambda.alerting.notifier import Notifier
from riskwatch_lambda.alerting.sinks import Publisher
from riskwatch_lambda.episode_rule import EpisodeState
from riskwatch_lambda.episodes.attributes import facts, state_key
from riskwatch_lambda.episodes.episode import Episode, ModelContext
from riskwatch_lambda.episodes.repository import EpisodeRepository
from riskwatch_lambda.episodes.seen import Seen, SeenRows
from riskwatch_lambda.events.batch import Outputs, process
from riskwatch_lambda.model.document import from_files
from riskwatch_lambda.storage import Objects
from riskwatch_lambda.table import Table
from riskwatch_ml.core import clock
from riskwatch_ml.storage import keys, labelled_rows
from riskwatch_ml.storage.bucket import Store

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from riskwatch_lambda.model.document import Model

ROWS = 9_000
CALL_S = 0.006
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
NOW_MS = clock.epoch_ms(NOW)
STEPS = {"a row a day": timedelta(days=1), "in succession": timedelta(minutes=5)}
LIMIT, MARKS_LIMIT = 2.0, 1.2
FLEET, FLEET_ROWS = 200, 250


class CountedServices(Services):
    """Services with the state of one instance; the calls of DynamoDB are counted."""

    def __init__(self, instance_id: str = "") -> None:
        super().__init__()
        self.calls = 0
        self.written_bytes = 0
        self.instance_id = instance_id

    def batch_get_item(self, **asked: Any) -> dict[str, Any]:
        """Return the state of the instance, which closed an hour ago."""
        self.calls += 1
        keys_asked = asked["RequestItems"]["table"]["Keys"]
        since = NOW_MS - 3_600_000
        episode = Episode(self.instance_id, "shop", state=EpisodeState(False, since, since + 1, since + 1, 2, 2.0))
        key = state_key(*episode.key)
        stored = {**key, **{name: value for name, value in facts(episode).items() if value is not None}}
        return {"Responses": {"table": [stored] if self.instance_id and key in keys_asked else []}}

    def query(self, **asked: Any) -> dict[str, Any]:
        """Find nothing."""
        self.calls += 1
        return {}

    def update_item(self, **asked: Any) -> None:
        """Take a change."""
        self.calls += 1
        self.written_bytes += len(asked["ExpressionAttributeValues"].get(":rows", {}).get("B", b""))


class NoMarks(SeenRows):
    """No marks of the newest rows."""

    def read(self, shard: str, instance_ids: Iterable[str], clock_ms: int) -> Seen:
        """Return no mark."""
        return Seen(shard, {})

    def advance(self, seen: Seen, newest: Mapping[str, int], arrived_ms: int) -> None:
        """Write nothing."""


class CountedFolder(Folder):
    """A folder as a bucket; the calls are counted."""

    calls = 0

    def put_object(self, **asked: Any) -> None:
        """Write an object."""
        self.calls += 1
        super().put_object(**asked)

    def get_object(self, **asked: Any) -> dict[str, Any]:
        """Read an object."""
        self.calls += 1
        return super().get_object(**asked)


def main() -> None:
    """Print the figures; exit with 1 if a ratio exceeds its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    files, _ = made("packs")
    model = from_files(files)
    figures: dict[str, Any] = {}
    for name, step in STEPS.items():
        figures[name] = record(model, options.rows, step)
        print(f"{name}: {figures[name]}", flush=True)
    figures["fleet without marks"], figures["fleet"] = (fleet(model, kind) for kind in (NoMarks, SeenRows))
    print(f"{FLEET * FLEET_ROWS:,} quiet rows: {figures['fleet']}, without marks {figures['fleet without marks']}")
    sparse, dense = (figures[name] for name in STEPS)
    ratios = {
        "record": sparse["record_s"] / dense["record_s"],
        "compaction": sparse["compaction_s"] / dense["compaction_s"],
        "marks": figures["fleet"]["record_s"] / figures["fleet without marks"]["record_s"],
    }
    figures["ratios"] = {name: round(ratio, 2) for name, ratio in ratios.items()}
    print(f"ratios: {figures['ratios']}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    if max(ratios["record"], ratios["compaction"]) > LIMIT or ratios["marks"] > MARKS_LIMIT:
        raise SystemExit(f"a ratio exceeds its limit: {LIMIT} for a sparse history, {MARKS_LIMIT} for the marks")


def record(model: Model, rows: int, step: timedelta) -> dict[str, Any]:
    """Label one record and compact its rows; return seconds and calls."""
    services = CountedServices("web-1")
    seconds = label(model, services, [pack(model, ["web-1"], rows, step)], SeenRows)
    with tempfile.TemporaryDirectory() as root:
        folder = CountedFolder(Path(root))
        store = Store(folder, "bench")
        for key, body in services.objects.items():
            store.put_bytes(key, body)
        started, calls = time.process_time(), folder.calls
        compacted = labelled_rows.compact(store, NOW)
        compaction_s = time.process_time() - started + CALL_S * (folder.calls - calls)
        objects = len(store.keys(f"{keys.LABELLED_ROWS}/"))
    assert compacted.rows_out == rows
    return {
        "record_s": round(seconds, 2),
        "calls": services.calls,
        "compaction_s": round(compaction_s, 2),
        "objects": objects,
    }


def fleet(model: Model, marks: type[SeenRows]) -> dict[str, Any]:
    """Label a batch of quiet rows of a fleet."""
    services = CountedServices()
    names = [f"i-{number:017x}" for number in range(FLEET)]
    packs = [
        pack(model, names[first : first + 20], FLEET_ROWS, STEPS["in succession"]) for first in range(0, FLEET, 20)
    ]
    seconds = min(label(model, services, packs, marks) for _ in range(3))
    return {"record_s": round(seconds, 2), "calls": services.calls // 3, "mark_bytes": services.written_bytes // 3}


def label(model: Model, services: CountedServices, packs: list[str], marks: type[SeenRows]) -> float:
    """Run the function on a batch; return seconds of CPU time and calls."""
    table = Table(services, "table")
    repository, budget = EpisodeRepository(table), Budget(table, Limits())
    notifier = Notifier(repository, MaintenanceWindows(table), budget, Publisher(services, "topic"), None)
    outputs = Outputs(Objects(services, "bucket"), repository, marks(table), lambda: notifier)
    started, calls = time.process_time(), services.calls
    with contextlib.redirect_stdout(io.StringIO()):
        answer = process(kinesis_event(packs, NOW_MS), model, outputs, ModelContext(model.model_id, "1", NOW_MS))
    assert answer == {"batchItemFailures": []}
    return time.process_time() - started + CALL_S * (services.calls - calls)


def pack(model: Model, names: list[str], rows: int, step: timedelta) -> str:
    """Return a pack in base64: usual rows of new instances, a step apart, the newest two hours ago."""
    step_ms, features = round(step.total_seconds() * 1000), list(model.row_schema.features)
    ts = [NOW_MS - 2 * 3_600_000 - step_ms * back for back in reversed(range(rows))]
    columns = [[1] * rows for _ in features]
    entries = [{"id": name, "role": "lab", "newest": rows, "ts": ts, "columns": columns} for name in names]
    document = {"v": 2, "service": "shop", "features": features, "instances": entries}
    return base64.b64encode(json.dumps(document, separators=(",", ":")).encode()).decode()


if __name__ == "__main__":
    main()
