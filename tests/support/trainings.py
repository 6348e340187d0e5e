"""Trainings as the tasks of train_models hand them on: what prepare returns, and stored candidates."""

from dataclasses import asdict
from datetime import UTC, datetime

from riskwatch_ml.core import clock
from riskwatch_ml.registry.registered import Registered

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
GOOD = {
    "fidelity": 1.0,
    "largest_cluster_share": 0.5,
    "noise_share": 0.0,
    "level_stability": 0.9,
    "severity_gap": 1.0,
    "load_correlation": 0.4,
    "prototypes": 40.0,
    "model_bytes": 1000.0,
    "operations_per_column": 500.0,
    "injected_vus_pr": 0.5,
    "alerts_per_instance_day": 0.5,
}
CHAMPION = Registered("2", "ab" * 32, "old", "T0", "kmeans", "candidates/T0/kmeans.zip")
FIVE = ["kmeans", "dbscan", "ensemble", "hierarchical", "kmedoids"]


def training(kind="contest", champion=None, **more):
    """What prepare returns, as far as choose needs it."""
    known = {
        "training_id": "T1",
        "run_id": "parent",
        "dag_run": "scheduled__1",
        "kind": kind,
        "why": "weekly",
        "wins": {},
        "at": clock.iso(TEN),
        "in_vain": False,
        "until": clock.iso(TEN),
        "new_normals": [],
    }
    return {**known, "champion": None if champion is None else asdict(champion), **more}


def candidate(aws, family, **figures):
    """Store a candidate as the task train does and return what that task returns: its families."""
    key = f"candidates/T1/{family}"
    aws.store.put_bytes(f"{key}.zip", family.encode())
    figures = {**GOOD, **figures}
    summary = {
        "family": family,
        "run_id": family,
        "digest": "d",
        "s3_key": f"{key}.zip",
        "figures": figures,
        "params": {},
    }
    aws.store.put_json(f"{key}.json", summary)
    return [{"family": family, "key": f"{key}.json", "run_id": family}]
