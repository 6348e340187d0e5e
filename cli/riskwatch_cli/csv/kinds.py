"""The kind of resource of a CSV file: its catalogue, the ids of its instances, and its part of the live model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from riskwatch_ml.core.errors import UserInputError
from riskwatch_ml.ingest import csv_reader
from riskwatch_ml.schema import catalogue

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.ingest.csv_reader import CsvRows
    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.streaming.live_model import LiveModel


class KindError(UserInputError):
    """The installation or the live model does not have the kind, or the file has instances of another one."""


def select(kinds: Sequence[Catalogue], name: str | None) -> Catalogue:
    """Return the catalogue of a kind of the installation, by default the first one; raises KindError."""
    for metrics in kinds:
        if name in (None, metrics.kind):
            return metrics
    installed = ", ".join(metrics.kind for metrics in kinds)
    raise KindError(
        f"--kind is {name!r}, and the setting catalogue has {installed}: name one of these, or append the catalogue of "
        "the kind to the setting"
    )


def read(path: Path, config: Settings, kinds: Sequence[Catalogue], metrics: Catalogue, instance: str | None) -> CsvRows:
    """Return the rows of a file about resources of one kind, with the ids that an export gives them.

    A name may already be such an id. Raises CsvError as `csv_reader.read` does, and KindError if a name reads like the
    id of another kind.
    """
    csv_rows = csv_reader.read(path, metrics, instance=instance)
    rows = csv_rows.rows
    account_regions = [account_region.name for account_region in config.account_regions]
    ids = {name: _qualified(name, metrics, account_regions) for name in rows["instance_id"].unique()}
    if refusal := catalogue.misread(ids.values(), metrics, kinds):
        raise KindError(f"{path.name}: {refusal}, or give the kind of the file as --kind")
    if metrics.is_first:
        return csv_rows
    rows = rows.assign(instance_id=rows["instance_id"].map(ids).astype(rows["instance_id"].dtype))
    return replace(csv_rows, rows=rows.sort_values(["instance_id", "timestamp"], kind="stable", ignore_index=True))


def live_part(model: LiveModel, kinds: Sequence[Catalogue], metrics: Catalogue) -> LiveModel:
    """Return the part of the live model for a kind; raises KindError if there is none."""
    first = kinds[0].kind
    part = model.of_kind(metrics.kind, first=first)
    if part is None:
        trained = ", ".join([model.kind or first, *model.others])
        raise KindError(
            f"the live model has no part for the kind {metrics.kind}, it has {trained}: import or export days of rows "
            "of the kind, run train_models, and promote the candidate"
        )
    return part


def _qualified(name: str, metrics: Catalogue, account_regions: Sequence[str]) -> str:
    """Return the id of an instance, whose name may begin with an account and region of the installation."""
    prefix = next((f"{part}:" for part in account_regions if name.startswith(f"{part}:")), "")
    local = name.removeprefix(prefix)
    is_id = not metrics.is_first and local.startswith(f"{metrics.kind}/")
    return name if is_id else prefix + metrics.qualify(local)
