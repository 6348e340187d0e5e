"""The stages of the demo that read the results of each kind."""

import pytest

from riskwatch_local.demo.data import DemoData, KindData
from riskwatch_local.demo.run import Demo, DemoError
from riskwatch_ml.schema import catalogue
from riskwatch_ml.storage import keys
from riskwatch_ml.storage.bucket import Store
from tests.support.bucket import Bucket

EC2, RDS = catalogue.load_all(["ec2", "rds"])


class Airflow:
    """Every run succeeds; tasks have returned what they are given."""

    def __init__(self, **returned):
        self.results = returned

    def trigger(self, dag, conf):
        return "run"

    def wait(self, dag, run, timeout_s):
        return {}

    def returned(self, dag, run, task):
        return self.results.get(task)


class System:
    """A system with a bucket."""

    def __init__(self):
        self.store = Store(Bucket(), "bucket")


@pytest.fixture
def demo():
    """A demo of two kinds whose rows were exported; a ranking of the first one is in the bucket."""
    kinds = tuple(KindData(metrics, {}, None, None) for metrics in (EC2, RDS))
    made = Demo(DemoData("fleet", kinds, 300, None, None, None, None), System(), None)
    made.figures["kinds"] = {"ec2": {}, "rds": {}}
    ranking = [{"family": "kmeans", "figures": {}}, {"family": "dbscan", "figures": {}, "vetoes": ["too slow"]}]
    made.system.store.put_json(keys.ranking("T"), {"ranking": ranking})
    return made


def test_the_candidates_are_those_of_the_first_kind_and_each_kind_has_a_winner(demo):
    # GIVEN the results of the training of both kinds
    first = {"training_id": "T", "family": "kmeans", "version": "3"}
    further = {"training_id": "T-rds", "family": "kmedoids", "version": "4"}

    # WHEN
    demo._train(Airflow(**{"choose": first, "rds.choose": further}))

    # THEN
    assert [row["verdict"] for row in demo.figures["candidates"]] == ["promoted", "vetoed: too slow"]
    assert demo.figures["training"] == {"id": "T", "model_version": "3"}
    assert demo.figures["kinds"] == {"ec2": {"family": "kmeans"}, "rds": {"family": "kmedoids"}}


def test_a_kind_without_a_winner_ends_the_demo(demo):
    first = {"training_id": "T", "family": "kmeans", "version": "3"}
    with pytest.raises(DemoError, match=r"task rds\.choose has returned no winner"):
        demo._train(Airflow(choose=first))
