"""The moment at which the rows of these tests arrive."""

from datetime import UTC, datetime

import pytest

from riskwatch_ml.core import clock


@pytest.fixture(autouse=True)
def now(monkeypatch):
    """The day after the rows."""
    moment = datetime(2026, 11, 23, tzinfo=UTC)
    monkeypatch.setattr(clock, "now", lambda: moment)
    return moment
