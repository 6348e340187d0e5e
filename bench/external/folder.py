"""A folder in the layout of the NAB repository: series with their windows, and the outputs of detectors."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bench.external.scoring import PROFILES, Window, probation_rows
from riskwatch_ml.core.errors import UserInputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LABELS, THRESHOLDS = "labels/combined_windows.json", "config/thresholds.json"
WHERE = "download it from github.com/numenta/NAB"


class FolderError(UserInputError):
    """A file of the folder is missing or cannot be used; the message names it."""


@dataclass(frozen=True)
class Series:
    """One data file: ``name`` is <folder>/<file>.csv, ``times`` are UTC and may repeat."""

    name: str
    times: pd.DatetimeIndex
    values: np.ndarray
    windows: tuple[Window, ...]

    @property
    def probation(self) -> int:
        """Return the number of rows of the probationary period."""
        return probation_rows(len(self.times))


@dataclass(frozen=True)
class Detector:
    """A detector of NAB: its threshold by the key of a profile, and its scores, one for each row, by series."""

    name: str
    thresholds: dict[str, float]
    scores: dict[str, np.ndarray]


def read_series(root: Path, pattern: str) -> list[Series]:
    """Return the series whose name matches a shell pattern, sorted by name.

    Raises FolderError if a folder, file or label is missing or cannot be read, or if no series matches.
    """
    if not (root / "data").is_dir():
        raise FolderError(f"{root / 'data'} is not a folder: give a folder with NAB's data, labels, results and config")
    labels = _read_json(root / LABELS)
    present = {path.relative_to(root / "data").as_posix() for path in (root / "data").glob("*/*.csv")}
    chosen = sorted(name for name in present | set(labels) if fnmatchcase(name, pattern))
    if not chosen:
        folders = ", ".join(sorted({name.split("/")[0] for name in present})) or "none"
        raise FolderError(
            f"no file matches {pattern!r}: --files is a pattern of <folder>/<file>.csv; folders: {folders}"
        )
    for name in chosen:
        if name not in present:
            raise FolderError(f"{root / 'data' / name} is missing: {WHERE}, or choose other files with --files")
        if name not in labels:
            raise FolderError(f"{root / LABELS} has no label of {name}: {WHERE}, or choose other files with --files")
    return [_series(root, name, labels[name]) for name in chosen]


def read_detectors(root: Path, series: Sequence[Series]) -> tuple[list[Detector], dict[str, str]]:
    """Return the detectors with a threshold and an output for every series, and why the others are left out.

    Raises FolderError if there are outputs without readable thresholds, or if an output cannot be read.
    """
    names = sorted(path.name for path in (root / "results").glob("*") if path.is_dir())
    if not names:
        return [], {"detectors": f"{root / 'results'} has none"}
    published = _read_json(root / THRESHOLDS)
    detectors, left_out = [], {}
    for name in names:
        try:
            thresholds = {profile.key: float(published[name][profile.key]["threshold"]) for profile in PROFILES}
        except (KeyError, TypeError, ValueError):
            left_out[name] = f"{root / THRESHOLDS} has no threshold for each profile"
            continue
        scores = {}
        for one in series:
            folder, file = one.name.split("/")
            path = root / "results" / name / folder / f"{name}_{file}"
            if not path.is_file():
                left_out[name] = f"{path} is missing"
                break
            times, scores[one.name] = _read_csv(path, "anomaly_score")
            if not times.equals(one.times):
                left_out[name] = f"{path} has other timestamps than {root / 'data' / one.name}"
                break
        if name not in left_out:
            detectors.append(Detector(name, thresholds, scores))
    return detectors, left_out


def _series(root: Path, name: str, label: Any) -> Series:
    times, values = _read_csv(root / "data" / name, "value")
    probation, windows = probation_rows(len(times)), []
    try:
        spans = sorted((pd.Timestamp(start, tz="UTC"), pd.Timestamp(end, tz="UTC")) for start, end in label)
    except (TypeError, ValueError):
        raise FolderError(f"{root / LABELS}: the windows of {name} are not pairs of times: {WHERE}") from None
    for start, end in spans:
        rows = np.flatnonzero((times >= start) & (times <= end))
        if not len(rows) or rows[-1] < probation:
            raise FolderError(
                f"{root / LABELS}: the window of {name} from {start:%Y-%m-%d %H:%M} has no row after the probationary "
                f"period of {probation} rows: are label and data of the same version?"
            )
        windows.append(Window(int(rows[0]), int(rows[-1])))
    return Series(name, times, values, tuple(windows))


def _read_csv(path: Path, column: str) -> tuple[pd.DatetimeIndex, np.ndarray]:
    """Return the times (UTC) and a column of a file."""
    try:
        rows = pd.read_csv(path, usecols=["timestamp", column])
        times = pd.to_datetime(rows["timestamp"], format="ISO8601", utc=True)
        return pd.DatetimeIndex(times).as_unit("ms"), rows[column].to_numpy(np.float64)
    except (OSError, ValueError) as error:
        raise FolderError(f"{path} cannot be read as timestamp,{column} ({str(error).splitlines()[0]})") from None


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FolderError(f"{path} is missing: {WHERE}")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FolderError(f"{path} is not JSON ({error}): {WHERE}") from None
    if not isinstance(document, dict):
        raise FolderError(f"{path} is not a JSON object: {WHERE}")
    return document
