"""In-memory bucket, stream and live function behind the client factory."""

import base64
import gzip
import json
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from riskwatch_cli.main import app
from riskwatch_ml.core import aws, clock, settings
from riskwatch_ml.storage.bucket import Store
from tests.support.bucket import Bucket, body
from tests.support.contract import imitates


@imitates("lambda", "kinesis")
class Function:
    """The live function: names its model and writes a verdict on each incoming row."""

    def __init__(self, s3):
        self.s3 = s3
        self.model_id = "m-1"
        self.kinds = {}
        self.records = []
        self.seen = self.loses = 0

    def invoke(self, **asked):
        answer = {"model_id": self.model_id}
        if self.model_id:
            features = ["cpu_utilization", "latency_ms"]
            answer |= {"features": features, "context_rows": 3, "max_gap_s": 1800, "period_s": 300}
            answer["kinds"] = {kind: {**answer, **part} for kind, part in self.kinds.items()}
        return {"Payload": body(json.dumps(answer).encode())}

    def put_records(self, **asked):
        name = f"dt={clock.now():%Y-%m-%d}/hh={clock.now():%H}/shard-{len(self.records)}.json.gz"
        labelled, refused = [], []
        for item in asked["Records"]:
            self.records.append(json.loads(item["Data"]))
            for row in self.rows(self.records[-1]):
                self.seen += 1
                if self.seen <= self.loses:
                    continue
                cpu = row["rows"][0][0]
                if cpu is not None and cpu > 100:
                    reason = f"cpu_utilization is {cpu:.10g}, above its upper bound 100"
                    data = base64.b64encode(json.dumps(row).encode()).decode()
                    refused.append({"reason": reason, "rows": 1, "data": data})
                else:
                    level = "High Load" if (cpu or 0) > 50 else "Normal"
                    identity = {"instance_id": row["instance_id"], "timestamp": clock.iso(row["ts"][0])}
                    labelled.append({**identity, "level": level, "risk": level})
        for layer, rows in (("labelled/arrived", labelled), ("quarantine/records", refused)):
            if rows:
                self.s3.objects[f"{layer}/{name}"] = gzip.compress("\n".join(map(json.dumps, rows)).encode())
        return {"Records": [{"SequenceNumber": "1"} for _ in asked["Records"]]}

    @staticmethod
    def rows(pack):
        """Yield the rows to label, each as its own record."""
        for entry in pack["instances"]:
            values = list(zip(*entry["columns"], strict=True))
            for ms, row in list(zip(entry["ts"], values, strict=True))[-entry["newest"] :]:
                yield {"v": 1, "instance_id": entry["id"], "ts": [ms], "rows": [row]}


@pytest.fixture
def cloud(monkeypatch, tmp_path):
    """Return the fakes, with settings that point to them, in an empty current folder."""
    s3 = Bucket()
    made = SimpleNamespace(s3=s3, function=Function(s3), store=Store(s3, "bucket"), folder=tmp_path)
    clients = {"s3": s3, "kinesis": made.function, "lambda": made.function}
    monkeypatch.setattr(aws, "client", lambda name: clients[name])
    config = settings.Settings(
        bucket="bucket", stream="metrics", table="table", function="risk", mlflow_uri="http://mlflow"
    )
    made.use = lambda **changes: monkeypatch.setattr(
        settings, "load", lambda: settings.Settings(**{**vars(config), **changes})
    )
    made.use()
    monkeypatch.chdir(tmp_path)
    return made


@pytest.fixture
def run(cloud):
    """Run a command on the text of a file."""

    def ran(command, content, *options, name="web.csv"):
        path = cloud.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return CliRunner().invoke(app, [command, "--csv", str(path), *options])

    return ran
