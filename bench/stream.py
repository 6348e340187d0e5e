"""Rows through Kinesis and the local Lambda runtime.

    python -m bench.stream [--rows N] [--json FILE]

The set-up: the stack on the embedded AWS, a KMeans model of the simulated fleet promoted into it, its zip under AWS's
own runtime client, batches with the stack's settings, records with one row to label.

The first part sends all rows at once and measures the rows per second. The second part sends the rows of one period of
the fleet at a time, each when the last ones are labelled, and measures the time from the call of PutRecords to the
labelled object. A batch counts as labelled when the function answers, shortly after it has written the object. The
objects are read at the end; it is an error if a row is missing. All components share one machine, so that the figures
describe this loop and not AWS.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from riskwatch_infra import deploy
from riskwatch_local.demo import simulator
from riskwatch_local.lambda_host import function as lambda_function
from riskwatch_local.lambda_host.environment import LambdaRuntime
from riskwatch_local.lambda_host.kinesis_source import Clients, KinesisSource, take_over
from riskwatch_local.services.embedded_aws import EmbeddedAws
from riskwatch_local.services.supervisor import Supervisor
from riskwatch_ml.artifact import archive
from riskwatch_ml.core import clock
from riskwatch_ml.registry import release
from riskwatch_ml.schema import catalogue
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import pandas as pd

    from riskwatch_local.lambda_host.environment import Answer
    from riskwatch_local.lambda_host.event_source import Event, Settings
    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.schema.inventory import Instance

PERIOD_S = 300
TRAINING_DAYS = 2
STEADY_PERIODS = 20
PATIENCE_S = 600
# The limit of a call of PutRecords.
MAX_RECORDS = 500


def main() -> None:
    """Print the figures.

    With `--json`, they are written as JSON.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Supervisor() as supervisor:
        figures = measure(supervisor, Path(folder), options.rows)
    for name, value in figures.items():
        print(f"{name:34s} {value:12,.3f}" if isinstance(value, float) else f"{name:34s} {value:12,}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


def measure(supervisor: Supervisor, folder: Path, rows: int) -> dict[str, float | int]:
    """Deploy, promote and send; return the figures.

    Raises SystemExit if a row is lost or labelled twice.
    """
    code, records = model_and_records(rows)
    periods = [list(same) for _, same in groupby(records[rows:], key=lambda entry: entry.newest_ms)]
    aws = EmbeddedAws.start(supervisor, folder)
    make = aws.client
    stack = deploy.deploy(make("cloudformation"), make("lambda"), parameters={"EndpointUrl": aws.endpoint}, poll_s=0.05)
    clients = Clients.of(make)
    settings = take_over(clients, stack.function, "live")
    release.promote(clients.functions, stack.function, "live", code, approved_by="the bench")
    function = lambda_function.fetch(clients.functions, stack.function, "live")
    with LambdaRuntime(supervisor, function, folder / "runtime", aws.client_settings) as runtime:
        started = time.perf_counter()
        runtime.invoke({"selftest": {}})
        cold = time.perf_counter() - started
        with Loop(clients, settings, runtime) as loop:
            started = time.perf_counter()
            burst = loop.send(stack.stream, records[:rows])
            seconds, invocations = time.perf_counter() - started, loop.invocations
            singly = np.concatenate([loop.send(stack.stream, period) for period in periods])
    labelled = [(row["instance_id"], row["timestamp"]) for row in stored(make("s3"), stack.bucket, keys.ARRIVED)]
    refused = sum(1 for _ in stored(make("s3"), stack.bucket, keys.REFUSED))
    if len(set(labelled)) != len(labelled) or len(labelled) + refused != len(records):
        raise SystemExit(
            f"{len(records)} rows sent, {len(labelled)} labelled ({len(set(labelled))} distinct), {refused} quarantined"
        )
    return {
        "rows sent": len(records),
        "rows labelled": len(labelled),
        "rows quarantined": refused,
        "cold start s": cold,
        "all at once: rows": len(burst),
        "all at once: invocations": invocations,
        "all at once: rows a second": len(burst) / seconds,
        "all at once: put to label p50 s": float(np.quantile(burst, 0.5)),
        "all at once: put to label p95 s": float(np.quantile(burst, 0.95)),
        "one period: put to label p50 s": float(np.quantile(singly, 0.5)),
        "one period: put to label p95 s": float(np.quantile(singly, 0.95)),
    }


class Entry(NamedTuple):
    """A record for the stream.

    `newest_ms` is its newest time in epoch milliseconds.
    """

    key: str
    data: bytes
    newest_ms: int


def model_and_records(rows: int) -> tuple[bytes, list[Entry]]:
    """Return the artifact of a KMeans model, and records of later rows.

    The model is trained on the simulated fleet; there are `rows` records and those of some further periods. Rows with
    an impossible value are among them, as in a real fleet: they end in quarantine.
    """
    from riskwatch_ml.model.fit import Recipe
    from riskwatch_ml.selection.candidate import fit_candidate

    metrics, fleet = catalogue.load(), simulator.inventory()
    # The fleet sometimes misses a row.
    periods = round(1.05 * rows / len(fleet)) + STEADY_PERIODS
    end = datetime(2026, 11, 22, tzinfo=UTC)
    days = TRAINING_DAYS + periods * PERIOD_S / 86_400
    table = simulator.simulate(end, days, stream_hours=(days - TRAINING_DAYS) * 24, period_s=PERIOD_S).rows
    start = end - timedelta(seconds=periods * PERIOD_S)
    training = possible(table[table["timestamp"] < start], metrics)
    candidate = fit_candidate(training, metrics, fleet, Recipe("kmeans", period_s=PERIOD_S), "bench")
    records = one_row_records(table[["instance_id", "timestamp", *metrics.names]], start, candidate.document, fleet)
    return archive.pack(candidate.document, candidate.arrays), records[: rows + STEADY_PERIODS * len(fleet)]


def possible(rows: pd.DataFrame, metrics: Catalogue) -> pd.DataFrame:
    """Return the rows without an impossible value: those that pass validation."""
    wrong = [(rows[metric.name] < metric.lower) for metric in metrics.metrics if metric.lower is not None]
    wrong += [(rows[metric.name] > metric.upper) for metric in metrics.metrics if metric.upper is not None]
    return rows[~np.any(wrong, axis=0)]


def one_row_records(
    table: pd.DataFrame, start: datetime, document: Mapping[str, Any], fleet: Mapping[str, Instance]
) -> list[Entry]:
    """Return one record for each row from `start` on, by time and instance.

    Each has the context rows that the model needs.
    """
    records = []
    for name, group in table.sort_values("timestamp").groupby("instance_id"):
        ts = group["timestamp"].astype("datetime64[ms, UTC]").astype("int64").tolist()
        rows = [[value if value == value else None for value in row] for row in group.iloc[:, 2:].to_numpy().tolist()]
        known = {"v": 1, "service": fleet[name].service, "role": fleet[name].role, "instance_id": name}
        for index, newest in enumerate(ts):
            if newest >= clock.epoch_ms(start):
                span = slice(max(0, index + 1 - document["context_rows"]), index + 1)
                data = json.dumps({**known, "ts": ts[span], "rows": rows[span]}, separators=(",", ":"))
                records.append((newest, name, Entry(fleet[name].service, data.encode(), newest)))
    return [entry for _, _, entry in sorted(records, key=itemgetter(0, 1))]


class Loop:
    """An event source in a thread, and a producer that waits for its records."""

    def __init__(self, clients: Clients, settings: Settings, runtime: LambdaRuntime) -> None:
        self.invocations = 0
        self._runtime = runtime
        self._kinesis = clients.kinesis
        self._put: list[float] = []
        self._done: list[float] = []
        self._failure: Any = None
        self._answered = threading.Condition()
        self._source = KinesisSource(clients, settings, self._invoke)
        self._thread = threading.Thread(target=self._source.run)

    def __enter__(self) -> Loop:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._source.stop()
        self._thread.join()

    def send(self, name: str, records: Sequence[Entry]) -> np.ndarray:
        """Put records and wait until they are labelled.

        Returns the seconds of each record (n,), from the call that put it. With one shard, records are labelled in the
        order in which they were put. Raises SystemExit if a record is refused or not labelled in time.
        """
        first = len(self._put)
        for start in range(0, len(records), MAX_RECORDS):
            entries = [
                {"Data": entry.data, "PartitionKey": entry.key} for entry in records[start : start + MAX_RECORDS]
            ]
            self._put += [time.perf_counter()] * len(entries)
            if self._kinesis.put_records(StreamName=name, Records=entries)["FailedRecordCount"]:
                raise SystemExit("the stream refused records")
        with self._answered:
            self._answered.wait_for(lambda: self._failure or len(self._done) == len(self._put), PATIENCE_S)
            if missing := len(self._put) - len(self._done):
                raise SystemExit(f"{missing} rows were not labelled: {self._failure or f'{PATIENCE_S} s have passed'}")
        seconds: np.ndarray = np.subtract(self._done[first:], self._put[first:])
        return seconds

    def _invoke(self, event: Event) -> Answer:
        answer = self._runtime.invoke(event)
        with self._answered:
            self.invocations += 1
            if answer.function_error or answer.payload["batchItemFailures"]:
                self._failure = answer.payload
            else:
                self._done += [time.perf_counter()] * len(event["Records"])
            self._answered.notify()
        return answer


def stored(s3: Any, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
    """Yield the documents in the objects under a prefix."""
    pages: Iterable[Mapping[str, Any]] = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    for entry in (entry for page in pages for entry in page.get("Contents", [])):
        body = s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
        yield from map(json.loads, gzip.decompress(body).splitlines())


if __name__ == "__main__":
    main()
