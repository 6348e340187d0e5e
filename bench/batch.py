"""The largest batch that Lambda hands over, in packs and in one-row records: python -m bench.batch [--json FILE].

Six megabytes of rows of the simulated fleet go through ``batch.process`` with the model that training makes of that
fleet and with services in memory, in a process of their own: CPU time and peak memory of the function, and the CPU time
of ``a2b_base64`` and ``json.loads`` on the same records in the same run, which nothing can do without. Lambda gives 512
MB 0.29 of a CPU: the last column is the share of the function's 60 seconds on this machine's CPU.
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
# What an event has around the data of each record, about.
ENVELOPE_BYTES = 400
DAYS, FIT_DAYS = 13, 4
END = datetime(2026, 11, 22, tzinfo=UTC)
MEMORY_MB, TIMEOUT_S = 512, 60
CPU_SHARE = MEMORY_MB / 1769


class Services:
    """S3, DynamoDB and SNS that take everything and hold objects alone."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put_object(self, **asked: Any) -> None:
        """Keep an object."""
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
        """Take a message."""
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
    """Fit the fleet's model and fill a batch: the files of the model, and the records in base64."""
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
    """Give the rows of a pack as records of their own, with as much context as the first of them has."""
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
    """Process the batch once as the function does."""
    from riskwatch_lambda.alerting.budget import Budget, Limits
    from riskwatch_lambda.alerting.maintenance import Windows
    from riskwatch_lambda.alerting.notifier import Teller
    from riskwatch_lambda.alerting.sinks import Objects, Publisher
    from riskwatch_lambda.episodes.lifecycle import Stamp
    from riskwatch_lambda.episodes.repository import Registry
    from riskwatch_lambda.events.batch import Outputs, process
    from riskwatch_lambda.model.document import from_files
    from riskwatch_lambda.table import Table

    services = Services()
    model = from_files(files)
    table = Table(services, "table")
    registry = Registry(table)
    teller = Teller(registry, Windows(table), Budget(table, Limits()), Publisher(services, "topic"), None)
    outputs = Outputs(Objects(services, "bucket"), registry, lambda: teller)
    now_ms = int(END.timestamp() * 1000)
    event = [
        {
            "eventID": f"shardId-000000000000:{place}",
            "kinesis": {"sequenceNumber": str(place), "approximateArrivalTimestamp": now_ms / 1000, "data": data},
        }
        for place, data in enumerate(datas)
    ]
    printed = io.StringIO()
    began = time.process_time()
    with contextlib.redirect_stdout(printed):
        answer = process(event, model, outputs, Stamp(model.model_id, "1", now_ms))
    cpu_s = time.process_time() - began
    peak_mb = peak_memory_mb()
    assert answer == {"batchItemFailures": []}
    counted = json.loads(printed.getvalue().splitlines()[-1])
    rows = counted["RowsLabelled"] + counted["RowsQuarantined"]
    began = time.process_time()
    for data in datas:
        json.loads(binascii.a2b_base64(data))
    floor_s = time.process_time() - began
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


def peak_memory_mb() -> float:
    """Give the peak memory of this process; the resource module would count the process that started it too."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    main()
