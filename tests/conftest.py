"""What test modules share: one run of the whole loop, and how files are shared out among workers."""

import os

import pytest

# The files whose tests look at the one running loop.
LOOP_FILES = ("tests/browser/test_page.py", "tests/e2e/test_loop.py")


def pytest_collection_modifyitems(items):
    """Begin with the running loop, which takes longest."""
    items.sort(key=lambda item: not item.nodeid.startswith(LOOP_FILES))


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
    """Run the loop once on two days of the simulated fleet, and keep everything up: (demo, its summary)."""
    from rich.console import Console

    from riskwatch_local.demo import data as sources
    from riskwatch_local.demo.run import Demo
    from riskwatch_local.services import system
    from riskwatch_local.services.supervisor import Supervisor
    from riskwatch_ml.core import clock

    source = sources.simulated(clock.now(), stream_hours=6, days=2)
    before = dict(os.environ)
    try:
        with system.state_folder(tmp_path_factory.mktemp("loop")) as folder, Supervisor() as supervisor:
            running = system.start(
                supervisor, folder, source.catalogue, source.inventory, overrides={"history_days": 3}
            )
            demo = Demo(source, running, Console(quiet=True))
            summary = demo.run()
            demo.environment = {name: value for name, value in os.environ.items() if before.get(name) != value}
            _restore(before)
            yield demo, summary
    finally:
        _restore(before)


@pytest.fixture(scope="module")
def restored_environment():
    """Give this process its environment back after a module that starts a system of its own."""
    before = dict(os.environ)
    yield
    _restore(before)


@pytest.fixture(autouse=True)
def _environment_of_the_loop(request):
    """Point this process at the running loop for the tests that use it, and only for those."""
    if "loop" not in request.fixturenames:
        yield
        return
    demo, _ = request.getfixturevalue("loop")
    before = dict(os.environ)
    os.environ.update(demo.environment)
    _forget()
    yield
    _restore(before)


def _restore(environment):
    os.environ.clear()
    os.environ.update(environment)
    _forget()


def _forget():
    """Drop what this process has made of its environment."""
    from riskwatch_ml.core import aws
    from riskwatch_ml.core import settings as configuration

    configuration.load.cache_clear()
    aws.forget()
