"""A live system: everything that the demo starts, and with `Seeded` two artifacts in service that nobody has trained.

The model of both is a fixed one, that of `tests/fixtures/upgrade`, which knows the simulated fleet. The older version
is the artifact as an earlier release packed it, with the code of that release; the champion has today's code.
"""

import json
import os
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from riskwatch_local.demo import data as sources
from riskwatch_local.demo.run import Demo
from riskwatch_local.services import system
from riskwatch_local.services.supervisor import Supervisor
from riskwatch_ml.artifact import archive
from riskwatch_ml.core import aws, clock, settings
from riskwatch_ml.registry import mlflow_registry
from riskwatch_ml.schema import catalogue
from riskwatch_ml.storage import keys

FIXTURES = Path(__file__).parents[1] / "fixtures" / "upgrade"
STREAM_HOURS = 6


def older_artifact():
    """Return the artifact as the earlier release packed it."""
    return (FIXTURES / "artifact.zip").read_bytes()


def todays_artifact():
    """Return the same model under another id, packed with today's code."""
    document, arrays = archive.unpack(older_artifact())
    changed = {"model_id": "20261130T050000Z-kmedoids", "training_id": "20261130T050000Z"}
    return archive.pack({**document, **changed}, arrays)


class Seeded(Demo):
    """The demo, with two fixed artifacts registered and promoted in place of a training."""

    def _train(self, airflow):
        for zip_bytes in (older_artifact(), todays_artifact()):
            self.figures["training"] = self._register(zip_bytes)
            self._run(airflow, "promote_model")
        self.figures["candidates"] = []

    def _register(self, zip_bytes):
        """Store an artifact with the figures of the fixture, and register it as choose does; return what it is."""
        store, config = self.system.store, settings.load()
        training_id = archive.unpack(zip_bytes)[0]["training_id"]
        summary = json.loads((FIXTURES / "candidate.json").read_text())
        key = keys.candidate(training_id, summary["family"])
        summary |= {"training_id": training_id, "s3_key": key, "digest": archive.checksum(zip_bytes)}
        store.put_bytes(key, zip_bytes)
        store.put_json(keys.candidate_summary(key), summary)
        run = mlflow_registry.open_training(config, training_id, {})
        winner = {**summary, "vetoes": [], "kind": "change", "why": "seeded"}
        version = mlflow_registry.register(config, run, training_id, [winner], winner, zip_bytes, catalogue.load())
        return {"id": training_id, "model_version": version}


@contextmanager
def running(kind, folder, days):
    """Start a system on some days of simulated instances, run the loop of `kind` once, and give (demo, its summary).

    The instances are of EC2, the kind of the fixed model. Everything stays up within the context. This process is a
    client of the system only `within` it.
    """
    source = sources.simulated(clock.now(), stream_hours=STREAM_HOURS, days=days, further_kinds=())
    with restored(), system.state_folder(folder) as state, Supervisor() as supervisor:
        before = dict(os.environ)
        started = system.start(supervisor, state, source.catalogues, source.inventory, overrides={"history_days": 3})
        demo = kind(source, started, Console(quiet=True))
        summary = demo.run()
        demo.environment = {name: value for name, value in os.environ.items() if before.get(name) != value}
        _set(before)
        yield demo, summary


@contextmanager
def within(demo):
    """Make this process a client of a running system."""
    with restored():
        os.environ.update(demo.environment)
        _forget()
        yield


@contextmanager
def restored():
    """Give this process its environment back in the end."""
    before = dict(os.environ)
    try:
        yield
    finally:
        _set(before)


def _set(environment):
    os.environ.clear()
    os.environ.update(environment)
    _forget()


def _forget():
    """Drop what this process has made of its environment."""
    settings.load.cache_clear()
    aws.clear_clients()
