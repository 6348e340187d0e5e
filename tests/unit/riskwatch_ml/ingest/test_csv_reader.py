"""Reading CSV files: what is found in them, and what is said about those that cannot be read."""

import numpy as np
import pandas as pd
import pytest

from riskwatch_ml.ingest import csv_reader
from riskwatch_ml.ingest.csv_reader import CsvError
from riskwatch_ml.schema import catalogue

CATALOGUE = catalogue.load()
HEAD = "timestamp,CPUUtilization,Latency_ms\n"


@pytest.fixture
def write(tmp_path):
    """Write text or bytes as web.csv."""

    def written(content):
        path = tmp_path / "web.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return written


def series(*minutes, head=HEAD, cpu=20):
    """One row for each minute after midnight of 17 February 2025, in that order."""
    rows = [f"2025-02-17 {minute // 60:02d}:{minute % 60:02d},{cpu + place},5" for place, minute in enumerate(minutes)]
    return head + "\n".join(rows) + "\n"


def moments(found):
    return found.rows["timestamp"].dt.strftime("%Y-%m-%d %H:%M").tolist()


def test_columns_are_found_by_alias_in_any_case(write):
    # GIVEN CloudWatch-style names, an unknown column, an empty cell, rows of two instances in no order
    path = write(
        "Timestamp,InstanceId,cpuutilization,DiskReadBytes_MB,Remark\n"
        "2025-02-17 00:05:00,b,20,1.5,x\n"
        "2025-02-17T00:00:00Z,b,,0.5,y\n"
        "2025-02-17T01:05:00+01:00,a,21,1.5,z\n"
    )

    # WHEN
    found = csv_reader.read(path, CATALOGUE)

    # THEN all features are there, in order; values stand in the feature's unit; rows are sorted; notes say the rest
    assert list(found.rows.columns) == ["instance_id", "timestamp", *CATALOGUE.names]
    assert found.rows["instance_id"].tolist() == ["a", "b", "b"]
    assert moments(found) == ["2025-02-17 00:05", "2025-02-17 00:00", "2025-02-17 00:05"]
    assert found.rows["disk_read_mb"].tolist() == [1.5, 0.5, 1.5]
    assert np.isnan(found.rows["cpu_utilization"][1])
    assert found.rows["latency_ms"].isna().all()
    assert str(found.rows["timestamp"].dtype) == "datetime64[ms, UTC]"
    assert found.notes == (
        "rows are not in order of time (first on line 3): sorted",
        "ignored, as no metric: column Remark",
    )


def test_impossible_values_and_repeated_rows_stay(write):
    # GIVEN CPU of 288 %, a negative latency, the same row twice in a row
    path = write(HEAD + "2025-02-17 00:00,288,5\n2025-02-17 00:05,20,-3\n2025-02-17 00:05,21,4\n2025-02-17 00:10,1,1\n")

    # WHEN
    found = csv_reader.read(path, CATALOGUE)

    # THEN
    assert found.rows["cpu_utilization"].tolist() == [288, 20, 21, 1]
    assert found.rows["latency_ms"].tolist() == [5, -3, 4, 1]
    assert set(found.rows["instance_id"]) == {"web"}
    assert found.notes == ()


def test_missing_values_in_many_spellings_and_rows_of_commas(write):
    # GIVEN
    path = write(HEAD + "2025-02-17 00:00,NaN, 5 \n\n2025-02-17 00:05,null,-\n,,\n2025-02-17 00:10,3e1,\n")

    # WHEN
    found = csv_reader.read(path, CATALOGUE)

    # THEN
    assert found.rows["latency_ms"].tolist()[0] == 5
    assert found.rows["cpu_utilization"].tolist()[2] == 30
    assert int(found.rows[["cpu_utilization", "latency_ms"]].isna().sum().sum()) == 4
    assert found.notes == ("1 rows without any value, not even a time, are left out",)


# --- the twelve ---

MALFORMED = {
    "empty": (b"", r"web\.csv: line 1: the file is empty"),
    "no header": ("2/17/2025 0:00,20,5\n2/17/2025 0:05,21,5\n", r"line 1: values stand where the names"),
    "wrong delimiter": ("timestamp;CPUUtilization\n2025-02-17 00:00;20,5\n", r"line 1: .*separated by ';'"),
    "mixed dates": (
        HEAD + "2/17/2025 0:00,20,5\n2/18/2025 0:00,20,5\n19/2/2025 0:00,20,5\n",
        r"mixed dates: '2/17/2025 0:00' on line 2 has the month first, '19/2/2025 0:00' on line 4 the day",
    ),
    "text in a number": (series(0, 5) + "2025-02-17 00:10,hot,5\n", r"line 4, column CPUUtilization: 'hot' is"),
    "10 MB line": (series(0) + "2025-02-17 00:05," + "9" * 10_000_000 + ",5\n", r"line 3 is longer than 1,000,000"),
    "UTF-16 without a mark": (series(0, 5).encode("utf-16-le"), r"line 1 holds NUL bytes: .*UTF-16"),
    "duplicate columns": (
        "timestamp,CPUUtilization,CPUUtilization\n2025-02-17 00:00,20,21\n",
        r"line 1: the column CPUUtilization is there twice, as column 2 and column 3",
    ),
    "no known column": ("timestamp,load\n2025-02-17 00:00,20\n", r"line 1: no column is a metric .*found columns tim"),
    "only nulls": (HEAD + "2025-02-17 00:00,,\n2025-02-17 00:05,NaN,\n", r"no metric .* 2 rows, columns CPU"),
    "unsorted": (series(*(37 * i % 60 for i in range(120))), r"60 times are repeated .*\(first on line 4\)"),
    "cut mid-row": (series(0, 5) + "2025-02-17 00:10,2", r"line 4 has 2 values, the header 3 names: it was cut off"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "words"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_file_ends_in_one_message_that_says_where(write, content, words):
    # GIVEN / WHEN / THEN
    with pytest.raises(CsvError, match=words) as error:
        csv_reader.read(write(content), CATALOGUE)
    assert str(error.value).startswith("web.csv: ")
    assert len(str(error.value)) < 400
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (HEAD, "a header and no row: line 2 is missing"),
        ("a,b\nx,y\n", "line 1: there is no timestamp column; found columns a, b"),
        (HEAD + "2025-02-17 00:00,20,5,\n", "line 2 has 4 values, the header 3 names: there is a comma too many"),
        (
            HEAD + "soon,20,5\n",
            "line 2, column timestamp: 'soon' is no time: write 2025-02-17T00:05:00Z or 2/17/2025 0:05",
        ),
        (HEAD + "9" * 20 + ",20,5\n", r"web\.csv: line 2, column timestamp: '9{20}' is no time"),
        (HEAD + "9999-12-31T23:59:59-12:00,20,5\n", r"web\.csv: line 2, column timestamp: .* is no time"),
        (HEAD + "soon" * 22_500 + ",20,5\n", r"web\.csv: line 2, column timestamp: '(soon){14}soo…' is no time"),
        (HEAD + ",20,5\n", "line 2, column timestamp: there is no value"),
        (HEAD + "2025-02-17,1_000,5\n", "line 2, column CPUUtilization: '1_000' is not a number"),
        (HEAD + "2025-02-17,inf,5\n2025-02-18,1e999,5\n", r"line 2, .*'inf' is not a number \(and 1 more"),
        (HEAD + '2025-02-17,20,"5\n2025-02-18,20,5\n', "line 2: a quotation mark is never closed"),
        (HEAD.encode() + b"2025-02-17,20,5\n2025-02-18,20\xb0,5\n", r"line 3 is not UTF-8 \(byte 0xb0\)"),
        (HEAD + "20,20,5\n", "line 2, column timestamp: the day 1970-01-01 does not lie between 2000 and 2100"),
        ("timestamp,cpu_utilization,CPUUtilization\n2025-02-17,1,2\n", "both cpu_utilization: remove one"),
        ("timestamp,host,CPUUtilization\n2025-02-17,,2\n", "line 2, column host: there is no value"),
        (series(0, 0, 0, 5, 5, 5), r"4 rows have the same time as the row before \(first on line 3\): add a column"),
    ],
)
def test_further_files_that_cannot_be_read(write, content, words):
    # GIVEN / WHEN / THEN
    with pytest.raises(CsvError, match=words):
        csv_reader.read(write(content), CATALOGUE)


def test_a_file_that_is_not_there(tmp_path):
    # GIVEN / WHEN / THEN
    with pytest.raises(CsvError, match=r"absent\.csv cannot be read \(No such file"):
        csv_reader.read(tmp_path / "absent.csv", CATALOGUE)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_a_byte_order_mark_says_how_to_read(write, encoding):
    # GIVEN / WHEN
    found = csv_reader.read(write(series(0, 5).encode(encoding)), CATALOGUE)

    # THEN
    assert found.rows["cpu_utilization"].tolist() == [20, 21]
    assert bool(found.notes) == (encoding == "utf-16")


# --- instances ---


def test_series_appended_to_each_other_are_instances(write):
    # GIVEN three series, the last of them shorter and later
    text = series(0, 5, 10, 15) + series(0, 5, 10, 15, head="", cpu=40) + series(10, 15, 20, head="", cpu=60)

    # WHEN
    found = csv_reader.read(write(text), CATALOGUE)

    # THEN
    cpu = found.rows.groupby("instance_id")["cpu_utilization"].apply(list).to_dict()
    assert cpu == {"web-1": [20, 21, 22, 23], "web-2": [40, 41, 42, 43], "web-3": [60, 61, 62]}
    assert found.notes == (
        "no instance column, and the times repeat: found three sequences, treated as three instances "
        "(web-1, web-2, web-3)",
    )


@pytest.mark.parametrize(
    ("text", "instance", "names"),
    [
        (series(0, 5), "shop", ["shop", "shop"]),
        (series(0, 5) + series(0, 5, head=""), "shop", ["shop-1", "shop-1", "shop-2", "shop-2"]),
        (series(0, 5) + series(0, 5, head=""), "web-2", ["web-2", "web-2"]),
        ("timestamp,host,CPUUtilization\n2025-02-17,a,1\n2025-02-17,b,2\n", "b", ["b"]),
    ],
)
def test_an_instance_is_named_or_chosen(write, text, instance, names):
    # GIVEN / WHEN / THEN
    assert csv_reader.read(write(text), CATALOGUE, instance=instance).rows["instance_id"].tolist() == names


def test_an_instance_that_is_not_in_the_file(write):
    # GIVEN / WHEN / THEN
    with pytest.raises(CsvError, match="there is no instance 'c': it has a, b"):
        csv_reader.read(
            write("timestamp,host,CPUUtilization\n2025-02-17,a,1\n2025-02-17,b,2\n"), CATALOGUE, instance="c"
        )


def test_without_a_catalogue_every_column_of_numbers_is_a_metric(write):
    # GIVEN a column of text, one of numbers with a gap, an empty one
    found = csv_reader.read(write("ts,host,zone,p99 (ms),spare\n0,a,eu,1.5,\n60,a,eu,,\n"))

    # THEN
    assert list(found.rows.columns) == ["instance_id", "timestamp", "p99 (ms)"]
    assert found.rows["timestamp"].tolist() == [pd.Timestamp(0, tz="UTC"), pd.Timestamp(60, unit="s", tz="UTC")]
    assert found.notes == ("ignored, as no metric: columns zone, spare",)


def test_without_a_catalogue_times_reach_to_the_end_of_the_calendar(write):
    # GIVEN the last second of the year 9999, and one number beyond it WHEN / THEN
    found = csv_reader.read(write("ts,load\n253402300799,1\n1,1\n2,1\n"))
    assert found.rows["timestamp"].max() == pd.Timestamp("9999-12-31 23:59:59", tz="UTC")
    with pytest.raises(CsvError, match="line 2, column ts: '253402300800' is no time"):
        csv_reader.read(write("ts,load\n253402300800,1\n100,1\n200,1\n"))


def test_long_names_of_columns_are_cut_in_messages(write):
    # GIVEN / WHEN / THEN
    with pytest.raises(CsvError, match="no column is a metric") as error:
        csv_reader.read(write("timestamp," + "x" * 90_000 + "\n2025-02-17 00:00,1\n"), CATALOGUE)
    assert len(str(error.value)) < 400


def test_without_a_catalogue_text_among_numbers_is_an_error(write):
    # GIVEN / WHEN / THEN
    with pytest.raises(CsvError, match="line 3, column load: 'high' is not a number"):
        csv_reader.read(write("time,load\n2025-02-17 00:00,1\n2025-02-17 00:05,high\n2025-02-17 00:10,2\n"))


def test_an_unresolved_placeholder_is_refused_as_an_instance_by_name(write):
    # GIVEN rows of an agent that did not resolve its own id
    path = write(
        "timestamp,InstanceId,CPUUtilization\n2025-02-17 00:00,i-1,20\n2025-02-17 00:00,${aws:InstanceId},20\n"
    )

    # WHEN / THEN the line, the column and the placeholder are named
    with pytest.raises(CsvError, match=r"line 3, column InstanceId: '\$\{aws:InstanceId\}' is a placeholder"):
        csv_reader.read(path, CATALOGUE)
