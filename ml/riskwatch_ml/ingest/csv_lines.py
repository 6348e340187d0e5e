"""Lines of a CSV file: decode them, split them into values, refuse by line number."""

import codecs
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from riskwatch_ml.core.errors import UserInputError
from riskwatch_ml.ingest.cloudwatch import is_unresolved

LONGEST_LINE = 1_000_000
_LONGEST_SHOWN = 60
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


class CsvError(UserInputError):
    """The file cannot be read; the message names file, line or column, and the fix."""


def cut(text: str) -> str:
    """Return a text of a file for a message, at most 60 characters of it."""
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 1]}…"


def shown(text: str) -> str:
    """Return a text of a file in quotes for a message, at most 60 characters of it."""
    return repr(cut(text))


def opened(source: Path) -> TextIO:
    """Return a file opened for `records`, as UTF-8 or as its byte order mark says.

    Raises OSError, and CsvError for a file with NUL bytes.
    """
    encoding = _encoding(source)
    errors = "surrogateescape" if encoding.startswith("utf-8") else "strict"
    return source.open(encoding=encoding, errors=errors, newline="")


def records(file: TextIO) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not blank, header included, with their line numbers.

    The number is that of the first line of a row. Raises CsvError for a line or a quotation that cannot be read.
    """
    reader = csv.reader(_lines(file), strict=True)
    line = 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            problem = "a quotation mark is never closed" if "unexpected end" in str(error) else str(error)
            raise CsvError(f"line {line}: {problem}") from error
        if cells is None:
            return
        if cells:
            yield line, cells
        line = reader.line_num + 1


def _encoding(source: Path) -> str:
    with source.open("rb") as file:
        head = file.read(4096)
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if head.startswith(mark):
            return encoding
    if b"\0" in head:
        raise CsvError(
            "line 1 holds NUL bytes: the file is not text, or UTF-16 without a byte order mark; save it as UTF-8"
        )
    return "utf-8"


def _lines(file: TextIO) -> Iterator[str]:
    """Yield the lines of a file, each checked before the CSV parser reads it."""
    number = 0
    while True:
        number += 1
        try:
            line = file.readline(LONGEST_LINE + 1)
        except UnicodeError as error:
            raise CsvError(
                f"line {number} or soon after: not valid {file.encoding} ({error}): save as UTF-8"
            ) from error
        if not line:
            return
        if len(line) > LONGEST_LINE:
            raise CsvError(f"line {number} is longer than {LONGEST_LINE:,} characters: it is not a row of metrics")
        if not line.isascii():
            _check_utf8(line, number)
        yield line


def _check_utf8(line: str, number: int) -> None:
    # The decoder turns bytes that are not UTF-8 into lone surrogates, which cannot be encoded again.
    try:
        line.encode()
    except UnicodeEncodeError as error:
        byte = ord(line[error.start]) & 0xFF
        raise CsvError(f"line {number} is not UTF-8 (byte 0x{byte:02x}): save the file as UTF-8") from error


def check_resolved(text: str, line: int, column: str) -> None:
    """Raise CsvError if a key is a placeholder, for example ``${aws:InstanceId}``, that an agent did not resolve."""
    if is_unresolved(text):
        raise CsvError(
            f"line {line}, column {column}: {shown(text)} is a placeholder that the agent did not resolve: write the "
            "id of the instance, or remove these rows"
        )
