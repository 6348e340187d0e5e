"""The function with fake services that most tests begin with."""

import pytest

from tests.support.world import World


@pytest.fixture
def world() -> World:
    """A function with the tiny model, on services in memory."""
    return World()
