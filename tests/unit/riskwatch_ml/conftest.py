"""Tests keep to one thread, as every caller of `fit_model` does: beside other processes more take longer."""

import pytest

from riskwatch_ml.core.threads import one_thread


@pytest.fixture(scope="session", autouse=True)
def single_thread():
    with one_thread():
        yield
