"""Lines of a CSV file: encodings, line numbers, refusals."""

import pytest

from riskwatch_ml.ingest import csv_lines
from riskwatch_ml.ingest.csv_lines import CsvError


@pytest.fixture
def records(tmp_path):
    """Write text or bytes, and read the records."""

    def read(content):
        path = tmp_path / "web.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with csv_lines.opened(path) as file:
            return list(csv_lines.records(file))

    return read


def test_records_have_the_number_of_their_first_line(records):
    # GIVEN a blank line, and a value over two lines
    found = records('time,note\n\n1,"a\nb"\n2,c\n')

    # WHEN / THEN
    assert found == [(1, ["time", "note"]), (3, ["1", "a\nb"]), (5, ["2", "c"])]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_gives_the_encoding(records, encoding):
    # GIVEN / WHEN / THEN
    assert records("zeit,größe\n1,2\n".encode(encoding)) == [(1, ["zeit", "größe"]), (2, ["1", "2"])]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("time,cpu\n".encode("utf-16-le"), r"line 1 holds NUL bytes: .*UTF-16 without a byte order mark"),
        ("time\n" + "9" * 1_000_001 + "\n", "line 2 is longer than 1,000,000 characters"),
        ('time\n1,"2\n3\n', "line 2: a quotation mark is never closed"),
        (b"time\n20\xb0\n", r"line 2 is not UTF-8 \(byte 0xb0\)"),
        ("time\n".encode("utf-16") + b"\x00\xd8", "not valid utf-16"),
    ],
)
def test_lines_that_cannot_be_read_are_refused(records, content, words):
    # GIVEN / WHEN / THEN
    with pytest.raises(CsvError, match=words):
        records(content)
