"""One embedded AWS and one fault proxy for all tests of a module."""

import pytest

from riskwatch_local.services.supervisor import Supervisor
from tests.support.rig import Rig


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    # A proxy that holds a call does not end when it is asked to.
    with Supervisor(grace_s=1) as supervisor:
        yield Rig(supervisor, tmp_path_factory.mktemp("rig"))


@pytest.fixture(scope="module")
def shared_runtime(rig):
    """One environment for the tests that do not harm it."""
    with rig.runtime() as runtime:
        yield runtime
