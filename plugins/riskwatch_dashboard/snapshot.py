"""Where a page's values come from: the bucket of the settings, looked at once in a while for all visitors.

Everything that can be wrong on the way to the bucket becomes `UnavailableError`, which says what to do.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from riskwatch_dashboard import alert_state as quiet
from riskwatch_dashboard import queries
from riskwatch_dashboard.alert_state import Quiet
from riskwatch_ml.core import clock
from riskwatch_ml.core.errors import OperationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from riskwatch_dashboard.queries import Reading
    from riskwatch_ml.core.settings import Settings

FRESH_S = 15.0
FAILED_S = 5.0
STALE_S = 120.0
CLIENT_S = 600.0

_log = logging.getLogger(__name__)


class UnavailableError(OperationError):
    """The pages cannot be filled; `title` says what is wrong, `advice` what to do."""

    def __init__(self, title: str, advice: str) -> None:
        super().__init__(f"{title}. {advice}")
        self.title = title
        self.advice = advice


@dataclass(frozen=True)
class Look:
    """A reading and what belongs to its installation.

    Units by metric, where MLflow shows the model, if it does, and of whom nothing is heard.
    """

    reading: Reading
    units: dict[str, str] = field(default_factory=dict)
    model_link: str | None = None
    quiet: Quiet = field(default_factory=Quiet)


class Source:
    """Looks that are at most `FRESH_S` seconds old, however many ask.

    One visitor at a time looks; the others meanwhile get the last look, if it is no older than `STALE_S`. A failure
    stands for `FAILED_S`, so that a bucket that does not answer is not asked by every visitor.
    """

    def __init__(self, look: Callable[[], Look], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._look = look
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._last: tuple[float, Look] | None = None
        self._failed: tuple[float, UnavailableError] | None = None

    def get(self) -> Look:
        """Return a look; raises UnavailableError."""
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

    def _age(self, kept: tuple[float, Any] | None) -> float:
        return float("inf") if kept is None else self._monotonic() - kept[0]

    def _renewed(self) -> Look:
        # Another visitor may have looked while this one waited.
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


def look() -> Look:
    """Look at the bucket that the settings name, through their Airflow connection; raises UnavailableError."""
    from riskwatch_ml.core import settings

    try:
        config = settings.load()
    except settings.SettingsError as error:
        raise UnavailableError(
            "Riskwatch has no settings here",
            f"{error}. The api-server reads the same settings as the tasks: give it their RISKWATCH_ variables or "
            "RISKWATCH_CONFIG, then load this page again.",
        ) from error
    return look_at(config)


def look_at(config: Settings) -> Look:
    """Look at the bucket of these settings; raises UnavailableError."""
    from airflow.sdk.exceptions import AirflowException
    from botocore.exceptions import BotoCoreError, ClientError

    from riskwatch_lambda.table import Table
    from riskwatch_ml.storage.bucket import Store

    try:
        now = clock.now()
        reading = queries.read(Store(_kept.client(config, "s3"), config.bucket), now)
        table = Table(_kept.client(config, "dynamodb"), config.table)
        return Look(reading, _units(config), _model_link(config, reading), quiet.read(table, now))
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
    """The last clients: making one takes longer than a look. Ten minutes at most, for a connection that was changed."""

    def __init__(self) -> None:
        self._made: tuple[float, Settings, dict[str, Any]] | None = None

    def client(self, config: Settings, kind: str) -> Any:
        made = self._made
        if made is None or made[1] != config or time.monotonic() - made[0] > CLIENT_S:
            made = self._made = (time.monotonic(), config, {})
        if kind not in made[2]:
            made[2][kind] = _client(config, kind)
        return made[2][kind]

    def forget(self) -> None:
        self._made = None


_kept = _Kept()


def _client(config: Settings, kind: str) -> Any:
    from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook
    from botocore.config import Config

    # A person waits: fail within seconds where a task would try for minutes.
    patience = Config(connect_timeout=3, read_timeout=10, retries={"mode": "standard", "max_attempts": 2})
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
            f"The api-server may not read the bucket {config.bucket}",
            f"AWS answered {code}. Give the Airflow connection {config.aws_conn_id} a role with s3:GetObject and "
            "s3:ListBucket on it.",
        )
    return UnavailableError(f"The bucket {config.bucket} cannot be read", f"AWS answered {code}: {text}")


def _units(config: Settings) -> dict[str, str]:
    from riskwatch_ml.schema import catalogue

    try:
        return {metric.name: metric.unit for metric in catalogue.load(config.catalogue).metrics}
    except (catalogue.CatalogueError, OSError) as error:
        _log.warning("metrics are shown without units: %s", error)
        return {}


def _model_link(config: Settings, reading: Reading) -> str | None:
    from riskwatch_ml.registry import mlflow_registry

    shown = (
        reading.model is not None and reading.model.version and config.mlflow_uri.startswith(("http://", "https://"))
    )
    return mlflow_registry.version_url(config, reading.model.version) if shown and reading.model else None
