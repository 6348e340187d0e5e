"""One thread for the libraries that compute: small matrices are faster on it, and sums do not depend on the cores."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep BLAS and OpenMP to one thread until the context ends; ``@one_thread()`` does so for a function.

    On more, an OpenMP thread that waits keeps its core busy: beside other processes a fit takes many times as long.
    """
    # A limit is set on the libraries that are loaded when it begins, so the one that brings OpenMP comes first.
    import sklearn.cluster  # noqa: F401
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield
