"""A bucket that notes what is read, and a store on it."""

import pytest

from riskwatch_ml.storage.bucket import Store
from tests.support.labelled import Noted


@pytest.fixture
def bucket() -> Noted:
    return Noted()


@pytest.fixture
def store(bucket) -> Store:
    return Store(bucket, "b")
