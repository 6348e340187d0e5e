"""Where Riskwatch finds its bucket, stream, function and MLflow server: a TOML file, then the environment, read once.

The file is named by RISKWATCH_CONFIG; RISKWATCH_<FIELD> overrides one field of it, as RISKWATCH_BUCKET does. Schedules
have a table of their own, `[schedules]`, which DAG files read without needing any other setting.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from riskwatch_ml.core.accounts import Shard, all_shards
from riskwatch_ml.core.errors import UserInputError

PROMOTION_MODES = ("off", "dry_run", "approval", "auto")
MANUAL = "manual"
DEFAULT_SCHEDULES: Mapping[str, str | None] = MappingProxyType(
    {
        "stream_metrics": "*/5 * * * *",
        "export_metrics": "0 * * * *",
        "train_models": "30 3 * * *",
        "watch_model": "15 * * * *",
    }
)
_DAY_S = 86_400
# CloudWatch accepts values of the last two weeks, and a scheduled run may begin a while after its interval.
_REREAD_DAYS = 13


class SettingsError(UserInputError):
    """A setting is missing or cannot be used; the message names the key, the value and the fix."""


@dataclass(frozen=True)
class Settings:
    """Everything that differs between two installations.

    `period_s` and `settle_s` are seconds, `history_days` days, `budget` alerts per instance and day. `schedules` maps a
    DAG to its cron text, None where it runs only by hand. `catalogue` is "ec2", "rds" or the path of a file, None for
    "ec2"; `inventory` is the path of a file, None for the inventory kept in the bucket. `role_arns` and `regions` are
    the accounts and regions to read, see `riskwatch_ml.core.accounts`. Every scheduled export reads
    `reread_hours` before its interval again, the first one of a day (UTC) `reread_days`.
    """

    bucket: str
    stream: str
    table: str
    function: str
    mlflow_uri: str
    alias: str = "live"
    experiment: str = "riskwatch"
    model_name: str = "riskwatch"
    catalogue: str | None = None
    inventory: str | None = None
    period_s: int = 300
    settle_s: int = 180
    role_arns: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    reread_hours: int = 3
    reread_days: int = 3
    history_days: int = 28
    budget: float = 1.0
    promotion: str = "approval"
    schedules: Mapping[str, str | None] = field(default_factory=lambda: dict(DEFAULT_SCHEDULES), hash=False)
    aws_conn_id: str = "aws_default"

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if item.default is MISSING and item.name != "schedules" and not value:
                raise SettingsError(f"{item.name} is empty: {_how(item.name)}")
        if self.period_s < 60 or self.period_s % 60 or _DAY_S % self.period_s:
            raise SettingsError(f"period_s is {self.period_s}: use a multiple of 60 that divides a day, e.g. 60 or 300")
        for name, example in (("settle_s", 180), ("reread_hours", 3), ("reread_days", 3)):
            if getattr(self, name) < 0:
                raise SettingsError(f"{name} is {getattr(self, name)}: use 0 or more, e.g. {example}")
        if self.reread_days > _REREAD_DAYS or self.reread_hours > 24 * _REREAD_DAYS:
            raise SettingsError(
                f"reread_hours is {self.reread_hours} and reread_days {self.reread_days}: use at most {_REREAD_DAYS} "
                "days, CloudWatch takes no older values"
            )
        if self.history_days < 1:
            raise SettingsError(f"history_days is {self.history_days}: use at least 1")
        if self.budget <= 0:
            raise SettingsError(
                f"budget is {self.budget}: use a number of alerts per instance and day above 0, e.g. 1.0"
            )
        if self.promotion not in PROMOTION_MODES:
            raise SettingsError(f"promotion is {self.promotion!r}: use one of {', '.join(PROMOTION_MODES)}")
        all_shards(self.role_arns, self.regions)

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The accounts and regions to read."""
        return all_shards(self.role_arns, self.regions)


_TYPES: dict[str, type] = {
    **dict.fromkeys(("period_s", "settle_s", "reread_hours", "reread_days", "history_days"), int),
    **dict.fromkeys(("role_arns", "regions"), tuple),
    "budget": float,
}
_OPTIONAL = ("catalogue", "inventory")


@lru_cache(maxsize=1)
def load() -> Settings:
    """Read the settings file and the environment once per process.

    Raises SettingsError where a required key is missing, a key is unknown or a value cannot be used, ShardError where a
    role or region cannot.
    """
    table = _file()
    known = {item.name for item in fields(Settings)}
    strange = sorted(set(table) - known)
    if strange:
        raise SettingsError(
            f"{_source()} has the unknown key {strange[0]!r}: known keys are {', '.join(sorted(known))}"
        )
    values: dict[str, Any] = {}
    for item in fields(Settings):
        if item.name == "schedules":
            continue
        raw = os.environ.get(_variable(item.name), table.get(item.name))
        if raw is not None and not (raw == "" and item.name in _OPTIONAL):
            values[item.name] = _convert(item.name, raw)
        elif item.default is MISSING:
            raise SettingsError(f"{item.name} is missing: {_how(item.name)}")
    return Settings(schedules=schedules(), **values)


def schedules() -> Mapping[str, str | None]:
    """Return DAG -> cron text (None = only by hand). Only the schedules are read: nothing else has to be set."""
    chosen = dict(DEFAULT_SCHEDULES)
    table = _schedule_table()
    for dag, text in table.items():
        if dag not in chosen:
            raise SettingsError(f"schedules.{dag} is unknown: the DAGs with a schedule are {', '.join(sorted(chosen))}")
        if not isinstance(text, str) or not _is_schedule(text):
            raise SettingsError(f'schedules.{dag} is {text!r}: use five cron fields, e.g. "0 * * * *", or "{MANUAL}"')
        chosen[dag] = None if text == MANUAL else text
    return chosen


def shards() -> tuple[Shard, ...]:
    """Return the accounts and regions to read. Only these two settings are read: nothing else has to be set.

    Raises SettingsError or ShardError.
    """
    table = _file()
    return all_shards(
        *(_names(name, os.environ.get(_variable(name), table.get(name, ()))) for name in ("role_arns", "regions"))
    )


def _names(name: str, raw: Any) -> tuple[str, ...]:
    """Return a list of names: an array in the file, separated by commas in the environment."""
    if isinstance(raw, str):
        raw = [part.strip() for part in raw.split(",") if part.strip()]
    if not isinstance(raw, list | tuple) or not all(isinstance(part, str) for part in raw):
        raise SettingsError(f'{name} is {raw!r}: write a list of names, ["…"], or in the environment "…,…"')
    return tuple(raw)


def _schedule_table() -> dict[str, Any]:
    variable = _variable("schedules")
    text = os.environ.get(variable)
    if text is None:
        table = _file().get("schedules", {})
    else:
        try:
            table = tomllib.loads(f"schedules = {text}")["schedules"]
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(
                f'{variable} is {text!r}: write an inline table, {{export_metrics = "manual"}}'
            ) from error
    if not isinstance(table, dict):
        raise SettingsError(f"schedules is {table!r}: write it as the table [schedules]")
    return table


def _is_schedule(text: str) -> bool:
    return text == MANUAL or text.startswith("@") or len(text.split()) == 5


def _convert(name: str, raw: Any) -> Any:
    kind = _TYPES.get(name, str)
    if kind is tuple:
        return _names(name, raw)
    if kind is str:
        if not isinstance(raw, str):
            raise SettingsError(f"{name} is {raw!r}: write it in quotes")
        return raw
    if isinstance(raw, bool):
        raise SettingsError(f"{name} is {raw!r}: write a number")
    try:
        number = float(raw)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"{name} is {raw!r}: write a number") from error
    if kind is int and number != int(number):
        raise SettingsError(f"{name} is {raw!r}: write a whole number")
    return kind(number)


def _file() -> dict[str, Any]:
    path = os.environ.get("RISKWATCH_CONFIG")
    if not path:
        return {}
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            f"RISKWATCH_CONFIG is {path!r}, which cannot be read ({error.strerror}): correct or unset it"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from error


def _variable(name: str) -> str:
    return f"RISKWATCH_{name.upper()}"


def _source() -> str:
    return os.environ.get("RISKWATCH_CONFIG") or "the environment"


def _how(name: str) -> str:
    return f"set {_variable(name)}, or {name} in the file that RISKWATCH_CONFIG names"
