"""The data of the views, read from the bucket of the settings and cached.

Whatever prevents reading the bucket becomes an `UnavailableError` that says what to do.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from riskwatch_dashboard import alert_state as quiet
from riskwatch_dashboard import new_instances, queries
from riskwatch_dashboard.alert_state import AlertState
from riskwatch_dashboard.filters import EVERYTHING
from riskwatch_ml.core import clock
from riskwatch_ml.core.errors import OperationError, RiskwatchError

if TYPE_CHECKING:
    from collections.abc import Callable

    from riskwatch_dashboard.filters import Selection
    from riskwatch_dashboard.new_instances import NewInstance
    from riskwatch_dashboard.queries import RecentRows
    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.storage.bucket import Store

FRESH_S = 15.0
FAILED_S = 5.0
STALE_S = 120.0
CLIENT_S = 600.0
KEPT = 8

_log = logging.getLogger(__name__)


class UnavailableError(OperationError):
    """The views have no data; `title` says what is wrong, `advice` what to do."""

    def __init__(self, title: str, advice: str) -> None:
        super().__init__(f"{title}. {advice}")
        self.title = title
        self.advice = advice


@dataclass(frozen=True)
class Snapshot:
    """All data of a view, read at one time.

    `reading` has the labelled rows and the model in service, `units` the unit of each metric, `model_link` the URL of
    the model in MLflow (None if there is none), `quiet` the maintenance windows and instances without data,
    `disagreements` the differences between alias, MLflow and ledger in words. `new_instance` is the selected instance
    if the model has no baseline of it.
    """

    reading: RecentRows
    units: dict[str, str] = field(default_factory=dict)
    model_link: str | None = None
    quiet: AlertState = field(default_factory=AlertState)
    disagreements: tuple[str, ...] = ()
    new_instance: NewInstance | None = None


class SnapshotCache:
    """A cache of the data: entries are at most `FRESH_S` seconds old.

    One request at a time reads the bucket. Meanwhile the others get the previous entry if it is at most `STALE_S`
    seconds old, else they wait. A failure is remembered for `FAILED_S` seconds, so that not every request waits for a
    bucket that does not answer.
    """

    def __init__(self, look: Callable[[], Snapshot], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._look = look
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._last: tuple[float, Snapshot] | None = None
        self._failed: tuple[float, UnavailableError] | None = None

    def get(self) -> Snapshot:
        """Return the current entry; raises UnavailableError."""
        last = self._last
        age = self._age(last)
        if last is not None and age < FRESH_S:
            return last[1]
        if not self._lock.acquire(blocking=last is None or age > STALE_S):
            return last[1]  # type: ignore[index]
        try:
            return self._renewed()
        finally:
            self._lock.release()

    def _age(self, entry: tuple[float, Any] | None) -> float:
        return float("inf") if entry is None else self._monotonic() - entry[0]

    def _renewed(self) -> Snapshot:
        # Another request may have read the bucket while this one waited.
        if self._last is not None and self._age(self._last) < FRESH_S:
            return self._last[1]
        if self._failed is not None and self._age(self._failed) < FAILED_S:
            raise self._failed[1]
        try:
            look = self._look()
        except UnavailableError as error:
            self._failed = (self._monotonic(), error)
            raise
        self._last, self._failed = (self._monotonic(), look), None
        return look


class Snapshots:
    """One cache of the data for each selection, of the `KEPT` selections requested last.

    One request at a time reads the bucket, whatever it selects.
    """

    def __init__(self, look: Callable[[Selection], Snapshot]) -> None:
        self._look = look
        self._lock, self._reading = threading.Lock(), threading.Lock()
        self._caches: OrderedDict[Selection, SnapshotCache] = OrderedDict()

    def get(self, selection: Selection) -> Snapshot:
        """Return the current entry of a selection; raises UnavailableError."""
        with self._lock:
            cache = self._caches.setdefault(selection, SnapshotCache(partial(self._read, selection)))
            self._caches.move_to_end(selection)
            while len(self._caches) > KEPT:
                self._caches.popitem(last=False)
        return cache.get()

    def _read(self, selection: Selection) -> Snapshot:
        with self._reading:
            return self._look(selection)


def take_snapshot(selection: Selection) -> Snapshot:
    """Read the bucket of the settings through their Airflow connection.

    Raises UnavailableError.
    """
    from riskwatch_ml.core import settings

    try:
        config = settings.load()
    except settings.SettingsError as error:
        raise UnavailableError(
            "Riskwatch has no settings here",
            f"{error}. The api-server reads the same settings as the tasks: give it their RISKWATCH_ variables or "
            "RISKWATCH_CONFIG, then load this view again.",
        ) from error
    return snapshot_of(config, selection)


def snapshot_of(config: Settings, selection: Selection = EVERYTHING) -> Snapshot:
    """Read the bucket of these settings; raises UnavailableError."""
    from airflow.sdk.exceptions import AirflowException
    from botocore.exceptions import BotoCoreError, ClientError

    from riskwatch_lambda.table import Table
    from riskwatch_ml.storage.bucket import Store
    from riskwatch_ml.storage.parquet import StoreError

    try:
        now = clock.now()
        store = Store(_kept.client(config, "s3"), config.bucket)
        kinds = _kinds(config)
        reading = queries.read(store, now, selection, kinds[0].kind if kinds else None)
        units = {metric.name: metric.unit for metrics in kinds for metric in metrics.metrics}
        table = Table(_kept.client(config, "dynamodb"), config.table)
        link, state = _model_link(config, reading), quiet.read(table, now)
        new_instance = new_instances.of_selection(store, reading)
        return Snapshot(reading, units, link, state, _disagreements(config, store), new_instance)
    except StoreError as error:
        raise UnavailableError("An object of the bucket is damaged", f"{error}.") from error
    except ClientError as error:
        _kept.forget()
        raise _refused(config, error.response.get("Error", {})) from error
    except (BotoCoreError, AirflowException) as error:
        _kept.forget()
        raise UnavailableError(
            f"The bucket {config.bucket} cannot be reached",
            f"{error}. Check the Airflow connection {config.aws_conn_id}, and the network and credentials of the "
            "api-server.",
        ) from error


class _Kept:
    """A cache of AWS clients.

    Making a client takes longer than reading the bucket. A client is used for ten minutes at most, so that a changed
    Airflow connection takes effect.
    """

    def __init__(self) -> None:
        self._made: tuple[float, Settings, dict[str, Any]] | None = None

    def client(self, config: Settings, kind: str) -> Any:
        entry = self._made
        if entry is None or entry[1] != config or time.monotonic() - entry[0] > CLIENT_S:
            entry = self._made = (time.monotonic(), config, {})
        clients = entry[2]
        if kind not in clients:
            clients[kind] = _client(config, kind)
        return clients[kind]

    def forget(self) -> None:
        self._made = None


_kept = _Kept()


def _client(config: Settings, kind: str) -> Any:
    from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook
    from botocore.config import Config

    # A person waits for the answer: fail within seconds, unlike a task, which retries for minutes.
    patience = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "max_attempts": 2})
    return AwsGenericHook(aws_conn_id=config.aws_conn_id, client_type=kind, config=patience).conn


def _refused(config: Settings, answer: dict[str, Any]) -> UnavailableError:
    code, text = answer.get("Code", "?"), answer.get("Message", "")
    if code == "NoSuchBucket":
        return UnavailableError(
            f"The bucket {config.bucket} does not exist",
            "Deploy infra/riskwatch_infra/stack.yaml, or correct the setting bucket.",
        )
    if code in ("AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"):
        return UnavailableError(
            f"The api-server is not allowed to read the bucket {config.bucket}",
            f"AWS answered {code}. Give the Airflow connection {config.aws_conn_id} a role with s3:GetObject and "
            "s3:ListBucket on it.",
        )
    return UnavailableError(f"The bucket {config.bucket} cannot be read", f"AWS answered {code}: {text}")


def _disagreements(config: Settings, store: Store) -> tuple[str, ...]:
    """Return the differences between alias, MLflow and ledger; rows are shown even if they cannot be compared."""
    from botocore.exceptions import BotoCoreError, ClientError

    from riskwatch_ml.registry import serving

    try:
        return tuple(serving.read_without_mlflow(config, _kept.client(config, "lambda"), store).texts)
    except (ClientError, BotoCoreError, RiskwatchError) as error:
        # Errors of AWS name roles and accounts, so they go to the log only.
        _log.warning("alias and ledger could not be compared: %s", error)
        return ("alias and ledger could not be compared: see the log of the api-server",)


def _kinds(config: Settings) -> tuple[Catalogue, ...]:
    """Return the catalogues of the settings; none if they cannot be read, which is logged."""
    from riskwatch_ml.schema import catalogue
    from riskwatch_ml.schema.metric import CatalogueError

    try:
        return catalogue.load_all(config.catalogue)
    except (CatalogueError, OSError) as error:
        _log.warning("metrics are shown without units: %s", error)
        return ()


def _model_link(config: Settings, reading: RecentRows) -> str | None:
    from riskwatch_ml.registry import mlflow_registry

    shown = (
        reading.model is not None and reading.model.version and config.mlflow_uri.startswith(("http://", "https://"))
    )
    return mlflow_registry.version_url(config, reading.model.version) if shown and reading.model else None
