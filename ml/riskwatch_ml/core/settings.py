"""The settings of an installation, read once from a TOML file and the environment.

RISKWATCH_CONFIG names the file. RISKWATCH_<FIELD> overrides one field of it, for example RISKWATCH_BUCKET. Schedules
are in the table `[schedules]`, which DAG files read without any other setting.
"""

import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from riskwatch_ml.core import clock
from riskwatch_ml.core.accounts import AccountRegion, all_account_regions
from riskwatch_ml.core.errors import UserInputError
from riskwatch_ml.core.local_time import LocalTime

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
# CloudWatch accepts values of the last two weeks; a scheduled run may begin some time after its interval.
_REREAD_DAYS = 13
# A day to settle, a century to learn from: beyond these, a number is a slip, and its intervals leave the calendar.
_MOST = MappingProxyType({"settle_s": clock.DAY_S, "history_days": 36_500, "new_normal_hours": 876_000})


class SettingsError(UserInputError):
    """A setting is missing or not valid; the message names key, value and fix."""


@dataclass(frozen=True)
class Settings:
    """The values that differ between two installations.

    `period_s` and `settle_s` are in seconds, `history_days` in days. An episode that is open for `new_normal_hours` is
    learned as the new normal of its instance; until then its rows are left out of trainings. `pages_per_day` is the
    budget of pages for the whole fleet; without it, the budget follows the number of instances and of on-call
    `rotations`. `budget`, in pages per instance and day, is the one of earlier releases.
    `time_zones` and `holidays` are the seasons of the expected ranges, see `riskwatch_ml.core.local_time`.
    `schedules` maps a DAG to its cron text, or to None if it runs only by hand. `catalogue` has a packaged catalogue or
    a path for each kind of resource, the first kind first; without any it is "ec2". `inventory` is a path; None means
    the inventory in the bucket. `role_arns` and `regions` are the accounts and regions to read, see
    `riskwatch_ml.core.accounts`. Every scheduled export also reads the `reread_hours` before its interval; the first
    export of a day (UTC) reads the `reread_days` before it. `operations_topic_arn` is the SNS topic for messages to the
    operators of Riskwatch; None sends none.
    """

    bucket: str
    stream: str
    table: str
    function: str
    mlflow_uri: str
    alias: str = "live"
    experiment: str = "riskwatch"
    model_name: str = "riskwatch"
    catalogue: tuple[str, ...] = ()
    inventory: str | None = None
    period_s: int = 300
    settle_s: int = 180
    role_arns: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    reread_hours: int = 3
    reread_days: int = 3
    history_days: int = 28
    new_normal_hours: int = 12
    pages_per_day: float | None = None
    rotations: int = 1
    budget: float | None = None
    time_zones: tuple[str, ...] = ()
    holidays: tuple[str, ...] = ()
    promotion: str = "approval"
    schedules: Mapping[str, str | None] = field(default_factory=lambda: dict(DEFAULT_SCHEDULES), hash=False)
    aws_conn_id: str = "aws_default"
    operations_topic_arn: str | None = None

    def __post_init__(self) -> None:
        for setting in fields(self):
            if setting.default is MISSING and setting.name != "schedules" and not getattr(self, setting.name):
                raise SettingsError(f"{setting.name} is empty: {_how(setting.name)}")
        if self.period_s < 60 or self.period_s % 60 or clock.DAY_S % self.period_s:
            raise SettingsError(f"period_s is {self.period_s}: use a multiple of 60 that divides a day, e.g. 60 or 300")
        for name, example in (("settle_s", 180), ("reread_hours", 3), ("reread_days", 3)):
            if getattr(self, name) < 0:
                raise SettingsError(f"{name} is {getattr(self, name)}: use 0 or more, e.g. {example}")
        _check_most("settle_s", self.settle_s)
        if self.reread_days > _REREAD_DAYS or self.reread_hours > 24 * _REREAD_DAYS:
            raise SettingsError(
                f"reread_hours is {self.reread_hours} and reread_days {self.reread_days}: use at most {_REREAD_DAYS} "
                "days, CloudWatch accepts no older values"
            )
        for name in _LEARNING:
            _check_learning(name, getattr(self, name))
        _check_budget(self)
        if self.promotion not in PROMOTION_MODES:
            raise SettingsError(f"promotion is {self.promotion!r}: use one of {', '.join(PROMOTION_MODES)}")
        all_account_regions(self.role_arns, self.regions)
        LocalTime.parse(self.time_zones, self.holidays)

    @property
    def local_time(self) -> LocalTime:
        """The time zones of fleet and roles, and the holidays."""
        return LocalTime.parse(self.time_zones, self.holidays)

    @property
    def account_regions(self) -> tuple[AccountRegion, ...]:
        """The accounts and regions to read."""
        return all_account_regions(self.role_arns, self.regions)


_LEARNING = ("history_days", "new_normal_hours")
_TYPES: dict[str, type] = {
    **dict.fromkeys(("period_s", "settle_s", "reread_hours", "reread_days", "rotations", *_LEARNING), int),
    **dict.fromkeys(("role_arns", "regions", "catalogue", "time_zones", "holidays"), tuple),
    **dict.fromkeys(("pages_per_day", "budget"), float),
}
_OPTIONAL = ("catalogue", "inventory", "operations_topic_arn", "pages_per_day", "budget")


@lru_cache(maxsize=1)
def load() -> Settings:
    """Return the settings of the file and the environment, read once per process.

    Raises SettingsError if a required key is missing, a key is unknown or a value is not valid, and AccountRegionError
    if a role or region is not valid.
    """
    table = _file()
    known = {setting.name for setting in fields(Settings)}
    unknown = sorted(set(table) - known)
    if unknown:
        raise SettingsError(
            f"{_source()} has the unknown key {unknown[0]!r}: known keys are {', '.join(sorted(known))}"
        )
    values: dict[str, Any] = {}
    for setting in fields(Settings):
        if setting.name == "schedules":
            continue
        raw = _raw(setting.name, table)
        if raw is not None and not (raw == "" and setting.name in _OPTIONAL):
            values[setting.name] = _convert(setting.name, raw)
        elif setting.default is MISSING:
            raise SettingsError(f"{setting.name} is missing: {_how(setting.name)}")
    return Settings(schedules=schedules(), **values)


def schedules() -> Mapping[str, str | None]:
    """Return the cron text of each DAG, None if it runs only by hand.

    No other setting is needed. Raises SettingsError for an unknown DAG or a text that is not a schedule.
    """
    cron_texts = dict(DEFAULT_SCHEDULES)
    for dag, text in _schedule_table().items():
        if dag not in cron_texts:
            known = ", ".join(sorted(cron_texts))
            raise SettingsError(f"schedules.{dag} is unknown: the DAGs with a schedule are {known}")
        if not isinstance(text, str) or not _is_schedule(text):
            raise SettingsError(f'schedules.{dag} is {text!r}: use five cron fields, e.g. "0 * * * *", or "{MANUAL}"')
        cron_texts[dag] = None if text == MANUAL else text
    return cron_texts


def account_regions() -> tuple[AccountRegion, ...]:
    """Return the accounts and regions to read. No other setting is needed.

    Raises SettingsError if a value is not a list of names, AccountRegionError if a role or region is not valid.
    """
    table = _file()
    return all_account_regions(
        *(_names(name, os.environ.get(_variable(name), table.get(name, ()))) for name in ("role_arns", "regions"))
    )


def catalogues() -> tuple[str, ...]:
    """Return the setting `catalogue`. No other setting is needed.

    Raises SettingsError if the value is not a list of names.
    """
    return _names("catalogue", _raw("catalogue", _file()) or ())


def learning() -> tuple[int, int]:
    """Return `history_days` and `new_normal_hours`. Nothing else has to be set.

    Raises SettingsError if a value cannot be used.
    """
    values = []
    for name in _LEARNING:
        values.append(_convert(name, os.environ.get(_variable(name), _file().get(name, getattr(Settings, name)))))
        _check_learning(name, values[-1])
    return values[0], values[1]


def local_time() -> LocalTime:
    """Return the time zones and holidays. Nothing else has to be set.

    Raises SettingsError if a value is not a list of names, LocalTimeError if a zone or a holiday is not valid.
    """
    return LocalTime.parse(*(_names(name, _raw(name, _file()) or ()) for name in ("time_zones", "holidays")))


def _raw(name: str, table: Mapping[str, Any]) -> Any:
    """Return the value of a setting in the environment or in the file, None if it has none."""
    raw = os.environ.get(_variable(name), table.get(name))
    if name == "catalogue" and isinstance(raw, str) and _variable(name) not in os.environ:
        return [raw]  # one catalogue, as in files of earlier releases: its path may have a comma
    return raw


def _check_learning(name: str, value: int) -> None:
    if value < 1:
        raise SettingsError(f"{name} is {value}: use at least 1")
    _check_most(name, value)


def _check_budget(settings: Settings) -> None:
    """Raise SettingsError for a budget that is no number above 0, or for two budgets."""
    for name, what in (("pages_per_day", "pages a day for the fleet"), ("budget", "pages per instance and day")):
        value = getattr(settings, name)
        if value is not None and not 0 < value < math.inf:
            raise SettingsError(f"{name} is {value}: use a number of {what} above 0, e.g. 4")
    if settings.pages_per_day is not None and settings.budget is not None:
        raise SettingsError("pages_per_day and budget are both set: remove budget, its unit is that of old releases")
    if settings.rotations < 1:
        raise SettingsError(f"rotations is {settings.rotations}: use the number of on-call rotations, e.g. 1")


def _check_most(name: str, value: int) -> None:
    if value > _MOST[name]:
        raise SettingsError(f"{name} is {value}: use at most {_MOST[name]}")


def _names(name: str, raw: Any) -> tuple[str, ...]:
    """Return a list of names.

    The file has an array, the environment a text with commas.
    """
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
        except (ValueError, RecursionError) as error:
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
    except (TypeError, ValueError, OverflowError) as error:
        raise SettingsError(f"{name} is {raw!r}: write a number") from error
    if not math.isfinite(number):
        raise SettingsError(f"{name} is {raw!r}: write a finite number")
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
    # Not only TOMLDecodeError: bytes that are not UTF-8, a number of thousands of digits, thousands of brackets.
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from error


def _variable(name: str) -> str:
    return f"RISKWATCH_{name.upper()}"


def _source() -> str:
    return os.environ.get("RISKWATCH_CONFIG") or "the environment"


def _how(name: str) -> str:
    return f"set {_variable(name)}, or {name} in the file that RISKWATCH_CONFIG names"
