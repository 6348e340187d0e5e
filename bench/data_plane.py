"""Time, memory and calls of an export.

    python -m bench.data_plane [--instances N] [--hours H] [--json FILE]

The task `fetch` of export_metrics runs in its own process against a local endpoint within the limits of CloudWatch
(`bench.cloudwatch_server`): it lists instances, reads metrics and writes Parquet objects over HTTP. Another process
only parses the same responses with botocore's parser. Time is CPU time: an export mostly waits, because CloudWatch
allows 90,000 datapoints a second.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import sys
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

MAX_RATIO, MAX_MB = 2.0, 600.0
# The export begins at midnight so many days ago: CloudWatch no longer treats such data as recent.
DAYS_AGO = 3


def main() -> None:
    """Print the figures; exit with 1 if one exceeds its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=1_000)
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    figures = measure(options.instances, options.hours)
    print(
        f"{figures['points']:,} points of {options.instances:,} instances over {options.hours} hours\n"
        f"calls        {figures['calls']} (the limits require at least {figures['least_calls']}), "
        f"{figures['throttled']} throttled\n"
        f"CPU          {figures['export_cpu_s']:.1f} s, botocore's parser alone {figures['parse_cpu_s']:.1f} s: "
        f"ratio {figures['ratio']:.2f} (at most {MAX_RATIO})\n"
        f"wall         {figures['export_wall_s']:.1f} s, of which the quota of datapoints needs "
        f"{figures['quota_wall_s']:.1f} s\n"
        f"memory       {figures['peak_mb']:.0f} MB at most, {figures['base_mb']:.0f} MB after imports "
        f"(at most {MAX_MB:.0f})\n"
        f"objects      {figures['objects']}"
    )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    if figures["ratio"] > MAX_RATIO or figures["peak_mb"] > MAX_MB or figures["calls"] != figures["least_calls"]:
        raise SystemExit("a figure exceeds its limit")


def measure(instances: int, hours: int) -> dict[str, Any]:
    """Run endpoint, export and parser in separate processes; return the figures."""
    context = multiprocessing.get_context("spawn")
    from bench import cloudwatch_server

    here, there = context.Pipe()
    server = context.Process(target=cloudwatch_server.serve, args=(instances, there), daemon=True)
    server.start()
    try:
        endpoint = f"http://127.0.0.1:{here.recv()}"
        with context.Pool(1) as pool:
            exported = pool.apply(export, (endpoint, hours))
        with urllib.request.urlopen(f"{endpoint}/counts", timeout=10) as answer:  # noqa: S310
            counts = json.load(answer)
        with context.Pool(1) as pool:
            parsed = pool.apply(parse, (instances, hours))
    finally:
        server.terminate()
        server.join()
    if (
        counts["points"] != parsed["points"]
        or counts["GetMetricData"] - counts.get("throttled", 0) != exported["calls"]
    ):
        raise SystemExit(f"the endpoint counted {counts}, the export {exported}, the parser {parsed}")
    return {
        **exported,
        **parsed,
        "ratio": exported["export_cpu_s"] / parsed["parse_cpu_s"],
        "throttled": counts.get("throttled", 0),
        "objects": counts["PutObject"],
        "quota_wall_s": counts["points"] / cloudwatch_server.POINTS_PER_S,
    }


def export(endpoint: str, hours: int) -> dict[str, Any]:
    """Run `fetch` over `hours` and return its figures.

    The measurement begins after the imports and the first client.
    """
    for name in [name for name in os.environ if name.startswith(("AWS_", "RISKWATCH_"))]:
        del os.environ[name]
    os.environ.update(
        {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AIRFLOW_CONN_AWS_DEFAULT": "aws://",
            "NO_PROXY": "127.0.0.1",
            **{f"RISKWATCH_{name}": "bench" for name in ("BUCKET", "STREAM", "TABLE", "FUNCTION", "MLFLOW_URI")},
        }
    )
    import pandas
    import pyarrow.parquet

    from riskwatch_airflow.tasks import export as tasks
    from riskwatch_ml.ingest import reader
    from riskwatch_ml.storage import bucket

    assert all((pandas, pyarrow.parquet, reader, bucket))
    start, end = _interval(hours)
    context = {"params": {}, "data_interval_start": start, "data_interval_end": end}
    base = _peak_mb()
    cpu, wall = time.process_time(), time.monotonic()
    fetched = tasks.fetch(context)
    taken = {"export_cpu_s": time.process_time() - cpu, "export_wall_s": time.monotonic() - wall}
    assert "great_expectations" not in sys.modules, "fetch has imported Great Expectations"
    return {
        **taken,
        "base_mb": base,
        "peak_mb": _peak_mb(),
        **{name: fetched[name] for name in ("rows", "calls", "least_calls", "metrics", "predicted_metrics")},
    }


def parse(instances: int, hours: int) -> dict[str, Any]:
    """Parse the responses to the planned calls with botocore's own parser.

    Making the responses is not measured.
    """
    import botocore.session
    from botocore.parsers import create_parser

    from bench import cloudwatch_server
    from riskwatch_ml.ingest import call_plan, reader
    from riskwatch_ml.schema import catalogue

    model = botocore.session.get_session().get_service_model("cloudwatch")
    assert model.resolved_protocol == "json", f"the endpoint speaks JSON, botocore speaks {model.resolved_protocol}"
    shape, parser = model.operation_model("GetMetricData").output_shape, create_parser("json")
    start, end = _interval(hours)
    queries = [
        call_plan.Query(f"i-{number:017x}", metric, 300)
        for number in range(instances)
        for metric in catalogue.load().metrics
    ]
    seconds, points = 0.0, 0
    for call in call_plan.calls(queries, start, end, 300):
        body, count, following = cloudwatch_server.metric_data(
            {
                "MetricDataQueries": [reader._query(f"m{n}", query) for n, query in enumerate(call.queries)],
                "StartTime": call.start.timestamp(),
                "EndTime": call.end.timestamp(),
            }
        )
        assert not following, "a planned call does not fit into one page"
        points += count
        started = time.process_time()
        parsed = parser.parse({"status_code": 200, "headers": {}, "body": body}, shape)
        seconds += time.process_time() - started
        assert sum(len(result["Values"]) for result in parsed["MetricDataResults"]) == count
    return {"parse_cpu_s": seconds, "points": points}


def _interval(hours: int) -> tuple[datetime, datetime]:
    start = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=DAYS_AGO)
    return start, start + timedelta(hours=hours)


def _peak_mb() -> float:
    # VmHWM belongs to this program; ru_maxrss may include the peak of its parent process.
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
