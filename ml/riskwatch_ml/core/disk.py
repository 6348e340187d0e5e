"""A full disk: recognise it in an exception or by the free space, and say so in one sentence."""

from __future__ import annotations

import errno
import shutil
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# SQLite and its drivers report a full disk by text only.
_SQLITE = "database or disk is full"
_NUMBERS = (errno.ENOSPC, errno.EDQUOT)
# With less free space than this, services fail in ways that do not name the disk.
FULL_BYTES = 16_000_000


def explanation(error: BaseException, folder: Path | None = None) -> str | None:
    """Return a sentence about the full disk that caused `error`, None if there is no sign of one.

    Signs are an exception in the chain of causes of `error`, and less than 16 MB free at `folder`.
    """
    for cause in _chain(error):
        if isinstance(cause, OSError) and cause.errno in _NUMBERS:
            return _sentence(str(cause.filename or folder or tempfile.gettempdir()))
        if _SQLITE in str(cause):
            return _sentence(str(folder or "the database"))
    if folder is not None and folder.exists() and shutil.disk_usage(folder).free < FULL_BYTES:
        return _sentence(str(folder))
    return None


def _sentence(place: str) -> str:
    return f"the disk is full: free some space for {place} and try again"


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__
