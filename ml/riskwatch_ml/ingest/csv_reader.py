"""Read CSV files of metrics: strict, with the line or column of the first problem.

A file is a header line, then rows with as many values as the header has names: a time (see
`riskwatch_ml.ingest.csv_timestamps`), optionally an instance, and metrics. The whole file is read before rows are
returned. The first problem ends the reading with a CsvError that names line or column.

- Refused: an empty file, no header, another delimiter than the comma, bytes that are not UTF-8, a line above 1,000,000
  characters, a row with too few or too many values, a quotation mark that is never closed, a repeated column, two
  columns of one metric, no known metric, no value in any metric, text or infinity instead of a number, no time or an
  unreadable one, mixed date formats, rows that no order assigns to series, an unresolved placeholder as instance.
- Read with a note: UTF-16 with a byte order mark, rows out of order (sorted), a file from newest to oldest, columns
  that are not metrics (ignored), rows without any value (left out), several series one after another.
- Kept: physically impossible values and repeated rows. The caller judges them.
"""

import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from riskwatch_ml.core import clock
from riskwatch_ml.core.listing import some
from riskwatch_ml.ingest import csv_lines, csv_series, csv_timestamps
from riskwatch_ml.ingest.csv_lines import CsvError
from riskwatch_ml.schema.catalogue import Catalogue

TIME_COLUMNS = ("timestamp", "time", "datetime", "date", "ts")
INSTANCE_COLUMNS = ("instance_id", "instanceid", "instance", "host", "hostname", "server", "machine")
# The function accepts these times. Others are seconds read as milliseconds, or from a clock that was never set.
EARLIEST, LATEST = "2000-01-01T00:00:00.000Z", "2100-01-01T00:00:00.000Z"
_MISSING = frozenset({"", "-", "nan", "null", "none", "na", "n/a", "#n/a"})
_OTHER_DELIMITERS = {";": "';'", "\t": "a tab", "|": "'|'"}
_WORDS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]


@dataclass(frozen=True)
class CsvRows:
    """The rows of a file.

    `rows`: instance_id (str), timestamp (datetime64[ms, UTC]) and float64 metrics, NaN if the file has no value, sorted
    by instance and time; repeated rows stay in file order. `notes`: assumptions and omissions, for people.
    """

    rows: pd.DataFrame
    notes: tuple[str, ...]


@dataclass
class _Column:
    """A metric column during reading: its values, and the count of other texts."""

    name: str
    index: int
    values: "array[float]" = field(default_factory=lambda: array("d"))
    numbers: int = 0
    texts: int = 0
    first_text: tuple[int, str] = (0, "")

    def add(self, cell: str, line: int) -> None:
        # float() would read 1_000 as a thousand.
        try:
            value = float(cell) if "_" not in cell else math.inf
        except ValueError:
            value = math.nan if cell.strip().lower() in _MISSING else math.inf
        if value - value == 0.0:
            self.numbers += 1
        elif not math.isnan(value):
            value = math.nan
            self.texts += 1
            self.first_text = self.first_text if self.texts > 1 else (line, cell)
        self.values.append(value)


@dataclass
class _Key:
    """The time or instance column during reading.

    `texts` are the distinct texts, `lines` the first line of each, `codes` the text of each row.
    """

    name: str
    index: int
    texts: dict[str, int] = field(default_factory=dict)
    lines: list[int] = field(default_factory=list)
    codes: "array[int]" = field(default_factory=lambda: array("q"))

    def add(self, cell: str, line: int) -> None:
        text = cell.strip()
        code = self.texts.get(text)
        if code is None:
            if text.lower() in _MISSING:
                raise CsvError(f"line {line}, column {self.name}: there is no value, and every row needs one")
            csv_lines.check_resolved(text, line, self.name)
            code = self.texts[text] = len(self.texts)
            self.lines.append(line)
        self.codes.append(code)


@dataclass
class _Table:
    """The columns of a file, and the line of each row."""

    time: _Key
    instance: _Key | None
    metrics: list[_Column]
    ignored: list[str]
    lines: "array[int]" = field(default_factory=lambda: array("q"))
    blank: int = 0


def read(path: str | Path, catalogue: Catalogue | None = None, *, instance: str | None = None) -> CsvRows:
    """Return the rows of a CSV file.

    With a catalogue, metrics are found by name or alias in any case; the rows have all metrics of the catalogue, in its
    order. Without one, every column of numbers is a metric under its own name. Values are taken as they are, in the
    unit of the feature.

    Without an instance column, the rows belong to `instance`, or to an instance with the name of the file. If the file
    has several series one after another, they become `<name>-1`, `<name>-2` and so on. With an instance column, or if
    `instance` is the name of one of these series, only the rows of `instance` are returned.

    Raises
    ------
    CsvError
        The file cannot be opened or read, or has no such instance.
    """
    source = Path(path)
    try:
        with csv_lines.opened(source) as file:
            encoding = file.encoding
            table = _read_table(csv_lines.records(file), catalogue)
        rows, notes = _assemble(table, catalogue, source.stem, instance)
    except OSError as error:
        raise CsvError(f"{source} cannot be read ({error.strerror}): correct the path") from error
    except (CsvError, csv_timestamps.TimeError, csv_series.SequenceError) as error:
        raise CsvError(f"{source.name}: {error}") from error
    if encoding not in ("utf-8", "utf-8-sig"):
        notes.insert(0, f"the file is read as {encoding.upper()}")
    return CsvRows(rows, tuple(notes))


def _read_table(records: Iterator[tuple[int, list[str]]], catalogue: Catalogue | None) -> _Table:
    head = next(records, None)
    if head is None:
        raise CsvError("line 1: the file is empty")
    line, names = head[0], [name.strip() for name in head[1]]
    table = _layout(names, line, catalogue)
    for line, cells in records:
        if len(cells) != len(names):
            problem = (
                "it was cut off, or values are missing" if len(cells) < len(names) else "there is a comma too many"
            )
            raise CsvError(f"line {line} has {len(cells)} values, the header {len(names)} names: {problem}")
        if not any(cell and not cell.isspace() for cell in cells):
            table.blank += 1
            continue
        table.lines.append(line)
        table.time.add(cells[table.time.index], line)
        if table.instance is not None:
            table.instance.add(cells[table.instance.index], line)
        for column in table.metrics:
            column.add(cells[column.index], line)
    if not table.lines:
        raise CsvError("the file has a header and no row: line 2 is missing")
    return table


def _layout(names: Sequence[str], line: int, catalogue: Catalogue | None) -> _Table:
    lower = [name.lower() for name in names]
    time = next((lower.index(name) for name in TIME_COLUMNS if name in lower), None)
    if time is None:
        raise CsvError(f"line {line}: {_why_no_time(names)}")
    for index, name in enumerate(lower):
        if name and lower.index(name) != index:
            raise CsvError(
                f"line {line}: the column {csv_lines.cut(names[index])} is there twice, as column "
                f"{lower.index(name) + 1} and column {index + 1}: remove or rename one"
            )
    instance = next((lower.index(name) for name in INSTANCE_COLUMNS if name in lower), None)
    others = [index for index, name in enumerate(names) if name and index not in (time, instance)]
    if catalogue is None:
        metrics = [_Column(names[index], index) for index in others]
        ignored: list[str] = []
    else:
        metrics, ignored = _of_catalogue(names, others, line, catalogue)
    key = None if instance is None else _Key(names[instance], instance)
    return _Table(_Key(names[time], time), key, metrics, ignored)


def _why_no_time(names: Sequence[str]) -> str:
    text = ",".join(names)
    for delimiter, shown in _OTHER_DELIMITERS.items():
        if text.count(delimiter) > text.count(","):
            return f"the columns are separated by {shown}: separate them by commas, with a point in numbers"
    if any(_is_value(name) for name in names):
        return "values stand where the names of the columns belong: add a header line such as timestamp,CPUUtilization"
    return f"there is no timestamp column; found {_listed(names)}: name the one with the time timestamp"


def _is_value(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        try:
            csv_timestamps.parse([name], [1])
        except csv_timestamps.TimeError:
            return False
    return True


def _known(catalogue: Catalogue) -> dict[str, str]:
    """Return the feature of each lower-case column name."""
    return {alias.lower(): metric.name for metric in catalogue.metrics for alias in (metric.name, *metric.aliases)}


def _of_catalogue(
    names: Sequence[str], others: Sequence[int], line: int, catalogue: Catalogue
) -> tuple[list[_Column], list[str]]:
    known = _known(catalogue)
    columns: dict[str, _Column] = {}
    ignored: list[str] = []
    for index in others:
        metric = known.get(names[index].lower())
        if metric is None:
            ignored.append(names[index])
        elif metric in columns:
            first = columns[metric].name
            raise CsvError(f"line {line}: the columns {first} and {names[index]} are both {metric}: remove one")
        else:
            columns[metric] = _Column(names[index], index)
    if not columns:
        expected = [metric.aliases[0] if metric.aliases else metric.name for metric in catalogue.metrics]
        raise CsvError(
            f"line {line}: no column is a metric of the catalogue: found {_listed(names)}; expected one of "
            f"{_listed(expected)}"
        )
    return list(columns.values()), ignored


def _assemble(
    table: _Table, catalogue: Catalogue | None, stem: str, instance: str | None
) -> tuple[pd.DataFrame, list[str]]:
    metrics = _numbers(table, strict=catalogue is not None)
    times = csv_timestamps.parse(list(table.time.texts), table.time.lines, table.time.name)
    ms = times.ms[np.frombuffer(table.time.codes, np.int64)]
    lines = np.frombuffer(table.lines, np.int64)
    if catalogue is not None:
        _check_epoch(ms, lines, table.time.name)
    names, instance_notes = _instances(table, ms, lines, stem, instance)
    frame = pd.DataFrame({column.name: np.frombuffer(column.values) for column in metrics}, dtype=np.float64)
    if catalogue is not None:
        known = _known(catalogue)
        frame = frame.rename(columns={name: known[name.lower()] for name in frame}).reindex(
            columns=list(catalogue.names)
        )
    keys = pd.DataFrame({"instance_id": pd.Series(names, dtype="str")})
    keys["timestamp"] = pd.DatetimeIndex(pd.to_datetime(ms, unit="ms", utc=True)).as_unit("ms")
    frame = pd.concat([keys, frame.drop(columns=list(keys), errors="ignore")], axis="columns")
    if instance is not None and (table.instance is not None or instance in set(names)):
        frame = _selected(frame, instance)
    ignored = [f"ignored, as no metric: {_listed(table.ignored, 30)}"] if table.ignored else []
    blank = [f"{table.blank:,} rows without any value, not even a time, are left out"] if table.blank else []
    notes = [*([times.note] if times.note else []), *instance_notes, *ignored, *blank]
    return frame.sort_values(["instance_id", "timestamp"], kind="stable", ignore_index=True), notes


def _numbers(table: _Table, strict: bool) -> list[_Column]:
    """Return the metric columns.

    Without a catalogue, a column of mostly text is ignored.
    """
    metrics: list[_Column] = []
    for column in table.metrics:
        if not strict and column.texts >= column.numbers:
            table.ignored.append(column.name)
            continue
        if column.texts:
            line, cell = column.first_text
            more = f" (and {column.texts - 1:,} more in this column)" if column.texts > 1 else ""
            raise CsvError(
                f"line {line}, column {csv_lines.cut(column.name)}: {csv_lines.shown(cell)} is not a number{more}: "
                "correct it, or leave it empty if the value is missing"
            )
        metrics.append(column)
    if not table.metrics:
        keys = [key.name for key in (table.time, table.instance) if key is not None]
        raise CsvError(f"line 1: there is no column of numbers beside {_some(keys)}")
    if not any(column.numbers for column in metrics):
        names = _listed([column.name for column in metrics or table.metrics])
        raise CsvError(f"no metric has a value in any of the {len(table.lines):,} rows, {names}")
    return metrics


def _check_epoch(ms: NDArray[np.int64], lines: NDArray[np.int64], name: str) -> None:
    low, high = (clock.epoch_ms(clock.parse(text)) for text in (EARLIEST, LATEST))
    outside = np.flatnonzero((ms < low) | (ms >= high))
    if len(outside):
        first = outside[0]
        day = (np.datetime64(int(ms[first]), "ms")).astype("datetime64[D]")
        raise CsvError(f"line {lines[first]}, column {name}: the day {day} does not lie between 2000 and 2100")


def _instances(
    table: _Table, ms: NDArray[np.int64], lines: NDArray[np.int64], stem: str, instance: str | None
) -> tuple[Sequence[str], list[str]]:
    """Return the instance of each row, and notes."""
    if table.instance is not None:
        codes = np.frombuffer(table.instance.codes, np.int64)
        order = np.argsort(codes, kind="stable")
        jumps = np.flatnonzero((np.diff(ms[order]) < 0) & (np.diff(codes[order]) == 0)) + 1
        names = np.array(list(table.instance.texts), dtype=object)[codes]
        line = int(lines[order[jumps]].min()) if len(jumps) else 0
        return list(names), [f"rows are not in order of time (first on line {line}): sorted"] if line else []
    split = csv_series.split(ms, lines)
    notes = [split.note] if split.note else []
    if split.count == 1:
        return [instance or stem] * len(ms), notes
    base = instance or stem
    if instance is not None and instance in {f"{stem}-{number + 1}" for number in range(split.count)}:
        base = stem
    count = _WORDS[split.count] if split.count < len(_WORDS) else str(split.count)
    shown = ", ".join(f"{base}-{number + 1}" for number in range(min(split.count, 12)))
    notes.append(
        f"no instance column, and the times repeat: found {count} sequences, treated as {count} instances "
        f"({shown}{', ...' if split.count > 12 else ''})"
    )
    return [f"{base}-{number + 1}" for number in split.series.tolist()], notes


def _selected(frame: pd.DataFrame, instance: str) -> pd.DataFrame:
    rows = frame[frame["instance_id"] == instance]
    if rows.empty:
        raise CsvError(
            f"there is no instance {csv_lines.shown(instance)}: it has {_some(sorted(set(frame['instance_id'])))}"
        )
    return rows


def _listed(names: Sequence[str], most: int = 12) -> str:
    return f"{'column' if len(names) == 1 else 'columns'} {_some(names, most)}"


def _some(names: Sequence[str], most: int = 12) -> str:
    return some([csv_lines.cut(name) or "(no name)" for name in names], most)
