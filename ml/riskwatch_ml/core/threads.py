"""Limit numeric libraries to one thread.

Small matrices are faster on one thread, and sums do not depend on the number of cores.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit BLAS and OpenMP to one thread inside the context.

    `@one_thread()` does so for a function. A waiting OpenMP thread keeps its core busy: with several threads, a fit
    beside other processes takes many times as long.
    """
    # threadpoolctl limits only libraries that are already loaded, so the import that loads OpenMP comes first.
    import sklearn.cluster  # noqa: F401
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield
