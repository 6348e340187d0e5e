"""The largest batch of Lambda, in packs and in one-row records.

    python -m bench.batch [--json FILE]

The benchmark sends six megabytes of rows of the simulated fleet through ``batch.process``, with a model that was
trained on this fleet and with services in memory. Each form runs in its own process. The figures are CPU time and peak
memory of the function. The floor is the CPU time of ``a2b_base64`` and ``json.loads`` for the same records in the same
run. Lambda gives 512 MB 0.29 of a CPU: the last column is the share of the function's 60 seconds on this machine's CPU.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import contextlib
import io
import json
import multiprocessing
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

BATCH_BYTES = 6 * 1024 * 1024
# Approximate bytes of an event around the data of each record.
ENVELOPE_BYTES = 400
DAYS, FIT_DAYS = 13, 4
END = datetime(2026, 11, 22, tzinfo=UTC)
MEMORY_MB, TIMEOUT_S = 512, 60
CPU_SHARE = MEMORY_MB / 1769


class Services:
    """S3, DynamoDB and SNS that accept every call and store only objects."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put_object(self, **asked: Any) -> None:
        """Store an object."""
        self.objects[asked["Key"]] = asked["Body"]

    def batch_get_item(self, **asked: Any) -> dict[str, Any]:
        """Find nothing."""
        return {}

    def query(self, **asked: Any) -> dict[str, Any]:
        """Find nothing."""
        return {}

    def transact_write_items(self, **asked: Any) -> None:
        """Take a change."""

    def update_item(self, **asked: Any) -> None:
        """Take a change."""

    def publish(self, **asked: Any) -> dict[str, str]:
        """Accept a message."""
        return {"MessageId": "1"}


def main() -> None:
    """Print one line for each form."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    lines = []
    print("form      records    rows  CPU s  us/row x floor    MB of 60 s")
    for form in ("packs", "one-row"):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            line = pool.apply(measure, (form, *pool.apply(made, (form,))))
        lines.append(line)
        print(
            f"{form:8s} {line['records']:8,d} {line['rows']:7,d} {line['cpu_s']:6.2f} {line['us_per_row']:7.1f} "
            f"{line['times_floor']:7.1f} {line['peak_mb']:5.0f} {line['of_timeout']:7.0%}",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps(lines, indent=1), encoding="utf-8")


def made(form: str) -> tuple[dict[str, bytes], list[str]]:
    """Fit a model to the fleet and fill a batch.

    Returns the files of the model, and the records in base64.
    """
    from riskwatch_local.demo import simulator
    from riskwatch_ml.artifact import archive
    from riskwatch_ml.model.fit import Recipe
    from riskwatch_ml.schema import catalogue
    from riskwatch_ml.selection import candidate
    from riskwatch_ml.streaming import packs as stream

    metrics = catalogue.load()
    fleet = simulator.simulate(END, days=DAYS, stream_hours=6)
    recent = fleet.rows[fleet.rows["timestamp"] >= END - timedelta(days=FIT_DAYS)]
    fitted = candidate.fit_candidate(recent, metrics, simulator.inventory(), Recipe("kmeans"), "bench")
    zip_bytes = archive.pack(fitted.document, fitted.arrays)
    document, _ = archive.unpack(zip_bytes)
    packer = stream.Packer(fleet.rows, simulator.inventory(), document["context_rows"], document["max_gap_s"], metrics)
    packs = [pack.data for queue in packer.packs(END - timedelta(days=DAYS), END) for pack in queue]
    records = packs if form == "packs" else [row for pack in packs for row in one_rows(json.loads(pack))]
    batch, size = [], 0
    for record in records:
        data = base64.b64encode(record).decode()
        size += len(data) + ENVELOPE_BYTES
        if size > BATCH_BYTES:
            break
        batch.append(data)
    return archive.model_files(zip_bytes), batch


def one_rows(pack: dict[str, Any]) -> list[bytes]:
    """Return the rows of a pack as one-row records.

    Each has as many context rows as the first row of the pack.
    """
    records = []
    for entry in pack["instances"]:
        rows = list(zip(*entry["columns"], strict=True))
        context = len(rows) - entry["newest"]
        for last in range(context, len(rows)):
            span = slice(last - context, last + 1)
            identity = {"service": pack["service"], "role": entry["role"], "instance_id": entry["id"]}
            record = {"v": 1, **identity, "ts": entry["ts"][span], "rows": rows[span]}
            records.append(json.dumps(record, separators=(",", ":")).encode())
    return records


def measure(form: str, files: dict[str, bytes], datas: list[str]) -> dict[str, Any]:
    """Process the batch once as the function does and return the figures."""
    from riskwatch_lambda.alerting.budget import Budget, Limits
    from riskwatch_lambda.alerting.maintenance import MaintenanceWindows
    from riskwatch_lambda.alerting.notifier import Notifier
    from riskwatch_lambda.alerting.sinks import Publisher
    from riskwatch_lambda.episodes.episode import ModelContext
    from riskwatch_lambda.episodes.repository import EpisodeRepository
    from riskwatch_lambda.episodes.seen import SeenRows
    from riskwatch_lambda.events.batch import Outputs, process
    from riskwatch_lambda.model.document import from_files
    from riskwatch_lambda.storage import Objects
    from riskwatch_lambda.table import Table

    services = Services()
    model = from_files(files)
    table = Table(services, "table")
    repository = EpisodeRepository(table)
    notifier = Notifier(
        repository, MaintenanceWindows(table), Budget(table, Limits()), Publisher(services, "topic"), None
    )
    outputs = Outputs(Objects(services, "bucket"), repository, SeenRows(table), lambda: notifier)
    now_ms = int(END.timestamp() * 1000)
    event = kinesis_event(datas, now_ms)
    printed = io.StringIO()
    started = time.process_time()
    with contextlib.redirect_stdout(printed):
        answer = process(event, model, outputs, ModelContext(model.model_id, "1", now_ms))
    cpu_s = time.process_time() - started
    peak_mb = peak_memory_mb()
    assert answer == {"batchItemFailures": []}
    counted = json.loads(printed.getvalue().splitlines()[-1])
    rows = counted["RowsLabelled"] + counted["RowsQuarantined"]
    floor_s = floor_cpu_s(datas)
    return {
        "form": form,
        "records": len(datas),
        "rows": rows,
        "quarantined": counted["RowsQuarantined"],
        "cpu_s": round(cpu_s, 3),
        "us_per_row": round(cpu_s / rows * 1e6, 1),
        "times_floor": round(cpu_s / floor_s, 1),
        "peak_mb": round(peak_mb),
        "of_timeout": round(cpu_s / CPU_SHARE / TIMEOUT_S, 3),
        "written_mb": round(sum(map(len, services.objects.values())) / 2**20, 1),
    }


def kinesis_event(datas: list[str], now_ms: int) -> list[dict[str, Any]]:
    """Return the records of an event with these base64 data.

    All of them arrived at `now_ms`, epoch milliseconds.
    """
    return [
        {
            "eventID": f"shardId-000000000000:{index}",
            "kinesis": {"sequenceNumber": str(index), "approximateArrivalTimestamp": now_ms / 1000, "data": data},
        }
        for index, data in enumerate(datas)
    ]


def floor_cpu_s(datas: list[str]) -> float:
    """Return the CPU seconds of decoding base64 and JSON alone."""
    started = time.process_time()
    for data in datas:
        json.loads(binascii.a2b_base64(data))
    return time.process_time() - started


def peak_memory_mb() -> float:
    """Return the peak memory of this process in MB.

    The resource module would include the memory of the parent process.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    main()
