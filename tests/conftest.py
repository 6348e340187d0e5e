"""What test modules share: the running systems, and how files are shared out among workers."""

import pytest
from hypothesis import HealthCheck, settings

# Property tests search the same inputs in every run; `make fuzz` searches longer, and elsewhere each time.
settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=200)
settings.register_profile("fuzz", deadline=None, max_examples=20_000, suppress_health_check=list(HealthCheck))
settings.load_profile("repeatable")

# The files whose tests share the one seeded system; the last of them changes what serves.
LOOP_FILES = ("tests/browser/test_page.py", "tests/e2e/test_loop.py", "tests/e2e/test_rollback.py")


def pytest_collection_modifyitems(items):
    """Begin with the running loop, which takes longest, in the order of its files."""
    order = {path: place for place, path in enumerate(LOOP_FILES)}
    items.sort(key=lambda item: order.get(item.nodeid.partition("::")[0], len(order)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give a file to one worker, as its fixtures are shared, and all that needs the running loop to one."""
    from xdist.scheduler.loadscope import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return "loop" if nodeid.startswith(LOOP_FILES) else nodeid.partition("::")[0]

    config.option.loadscopereorder = False
    return ByFile(config, log)


@pytest.fixture(scope="session")
def loop(tmp_path_factory):
    """The seeded system, after the loop has run once without a training: (demo, its summary)."""
    from tests.support import live

    with live.running(live.Seeded, tmp_path_factory.mktemp("loop"), days=1) as system:
        yield system


@pytest.fixture(scope="module")
def restored_environment():
    """Give this process its environment back after a module that starts a system of its own."""
    from tests.support import live

    with live.restored():
        yield


@pytest.fixture(autouse=True)
def _client_of_the_loop(request):
    """Point this process at the running loop for the tests that use it, and only for those."""
    if "loop" not in request.fixturenames:
        yield
        return
    from tests.support import live

    with live.within(request.getfixturevalue("loop")[0]):
        yield
