"""The tasks of promote_model over a function, a registry and a ledger in memory."""

from types import SimpleNamespace

from airflow.sdk.execution_time import task_runner
from botocore.exceptions import ClientError

from riskwatch_airflow import agreement, clients
from riskwatch_airflow.assets import CANDIDATE_MODEL
from riskwatch_airflow.tasks import promote
from riskwatch_ml.core import settings as configuration
from riskwatch_ml.registry import serving
from tests.support import runs
from tests.support.functions import FUNCTION
from tests.support.serving import Installation
from tests.support.trainings import TEN

APPROVED = "release_approved"


class Topic:
    """Takes messages."""

    def __init__(self):
        self.messages = []
        self.refuses = 0

    def publish(self, **asked):
        if self.refuses:
            self.refuses -= 1
            raise ClientError({"Error": {"Code": "Throttling"}}, "Publish")
        self.messages.append(asked)


class World:
    """An installation with the tasks of promote_model; each run has its own XComs."""

    def __init__(self, monkeypatch, mode="auto"):
        self.monkeypatch, self.installed, self.topic = monkeypatch, Installation(monkeypatch), Topic()
        by_name = {"lambda": self.installed.functions, "sns": self.topic}
        monkeypatch.setattr(clients, "client", lambda config, name: by_name[name])
        monkeypatch.setattr(clients, "store", lambda config: self.installed.store)
        monkeypatch.setattr(agreement, "RELEASE_S", 0)
        self.use(mode)

    def use(self, mode):
        """Set the promotion mode."""
        self.config = configuration.Settings(
            bucket="bucket",
            stream="s",
            table="t",
            function=FUNCTION,
            mlflow_uri="http://mlflow",
            promotion=mode,
            operations_topic_arn="topic",
        )
        self.monkeypatch.setattr(configuration, "load", lambda: self.config)

    def run(self, action="promote", announced=None):
        """Return a new run of promote_model, started by a person or by the announcement of some challengers."""
        return SimpleNamespace(supervisor=runs.Supervisor(), action=action, announced=announced)

    def task(self, run, name):
        """Run one task of a run and return its result."""
        self.monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", run.supervisor, raising=False)
        context = runs.context(runs.run(TEN, "manual"), name)
        context["params"] = {"action": run.action}
        if run.announced is not None:
            extra = {"challengers": [{"version": challenger.version} for challenger in run.announced]}
            asked = runs.run(TEN, "asset_triggered", requests=[(CANDIDATE_MODEL, extra)])
            context["triggering_asset_events"] = runs.context(asked)["triggering_asset_events"]
        if name.endswith(APPROVED):
            return promote.put_live(context, name.removesuffix(APPROVED).rstrip(".") or "ec2")
        tasks = {"release": promote.put_live, "complete": promote.complete, "settle": promote.settle}
        return {"decide": promote.decide, **tasks}[name](context)

    def promote(self):
        """Decide and release; return the run."""
        run = self.run()
        assert self.task(run, "decide") == [promote.RELEASE]
        self.task(run, "release")
        return run

    def read(self):
        """Return what serves."""
        return serving.read(self.config, self.installed.functions, self.installed.store)
