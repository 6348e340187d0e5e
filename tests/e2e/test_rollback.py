"""Going back on a live function: the artifact of an earlier release, today's, and the earlier one again."""

import gzip
import json
import time

import pytest

from riskwatch_lambda.events.selftest import SCORE_TOLERANCE
from riskwatch_ml.artifact import archive
from riskwatch_ml.core import aws, clock
from riskwatch_ml.registry import ledger, release
from riskwatch_ml.storage import keys
from tests.support import live

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(540)]

GOLDEN = archive.unpack(live.older_artifact())[0]["golden"]
DAY_MS = 86_400_000
ARRIVAL_S = 120


class Served:
    """The function behind its alias, with the ledger beside it."""

    def __init__(self, system):
        self.system, self.functions, self.function = system, aws.client("lambda"), system.outputs.function

    @property
    def version(self):
        """The version that holds the alias, which the ledger has to name too."""
        held = self.functions.get_alias(FunctionName=self.function, Name="live")["FunctionVersion"]
        assert ledger.in_service(ledger.read(self.system.store))["function_version"] == held
        return held

    def release(self, zip_bytes):
        """Put an artifact into service, and into the ledger; return its version."""
        released = release.promote(self.functions, self.function, "live", zip_bytes, approved_by="ada")
        self._record(ledger.PROMOTE, zip_bytes, released.function_version)
        return released.function_version

    def restore(self, version, zip_bytes):
        """Put an earlier version back into service, and note that in the ledger."""
        release.restore(self.functions, self.function, "live", version, only_from=self.version)
        self._record(ledger.RESTORE, zip_bytes, version)

    def _record(self, action, zip_bytes, version):
        entry = {"action": action, "digest": archive.checksum(zip_bytes), "function_version": version, "by": "ada"}
        ledger.write(self.system.store, entry)

    def labels(self):
        """Stream the golden rows, a day or two old, and return how each is labelled, by whom first."""
        newest = max(record["ts"][-1] for record in GOLDEN["records"])
        shift = (clock.epoch_ms(clock.now()) - newest) // DAY_MS * DAY_MS - DAY_MS
        records = [{**record, "ts": [ts + shift for ts in record["ts"]]} for record in GOLDEN["records"]]
        store = self.system.store
        before = set(store.keys(keys.ARRIVED))
        entries = [{"Data": json.dumps(each).encode(), "PartitionKey": each["service"]} for each in records]
        aws.client("kinesis").put_records(StreamName=self.system.outputs.stream, Records=entries)
        rows = {}
        deadline = time.monotonic() + ARRIVAL_S
        while len(rows) < len(records) and time.monotonic() < deadline:
            for key in set(store.keys(keys.ARRIVED)) - before:
                lines = map(json.loads, gzip.decompress(store.get_bytes(key)).splitlines())
                rows |= {(row["instance_id"], row["timestamp"]): row for row in lines}
            time.sleep(0.5)
        names = ("model_version", "model_id", "level", "unusual", "score")
        identities = [(record["instance_id"], clock.iso(clock.from_epoch_ms(record["ts"][-1]))) for record in records]
        return [tuple(rows[identity][name] for name in names) for identity in identities]


def expected(version, zip_bytes):
    """Return how a version labels the golden rows by what is written in the artifact."""
    document, _ = archive.unpack(zip_bytes)
    rows = document["golden"]["expected"]
    return [
        (version, document["model_id"], row["level"], row["unusual"], pytest.approx(row["score"], abs=SCORE_TOLERANCE))
        for row in rows
    ]


def test_an_artifact_of_an_earlier_release_serves_and_comes_back(loop):
    # GIVEN a function that serves today's artifact
    served = Served(loop[0].system)
    older, todays = live.older_artifact(), live.todays_artifact()
    before = served.version

    # WHEN that of an earlier release is put into service THEN its own code labels rows as it did then
    first = served.release(older)
    assert served.version == first != before
    assert served.labels() == expected(first, older)

    # WHEN today's follows THEN it labels them, ...
    second = served.release(todays)
    assert served.version == second != first
    assert served.labels() == expected(second, todays)

    # ... and when the earlier version is restored, that does so again
    served.restore(first, older)
    assert served.version == first
    assert served.labels() == expected(first, older)
