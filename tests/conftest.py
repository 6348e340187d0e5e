"""What test modules share: one run of the whole loop, at the end of a session."""

import os

import pytest


def pytest_collection_modifyitems(items):
    """Put the tests on the running loop last: it takes this process's environment and most of a small machine."""
    items.sort(key=lambda item: "loop" in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def loop(tmp_path_factory):
    """Run the loop once on two days of the simulated fleet, and keep everything up: (demo, its summary)."""
    from rich.console import Console

    from local import source as sources
    from local import system
    from local.demo import Demo
    from local.processes import Supervisor
    from ml import aws, clock
    from ml import settings as configuration

    source = sources.simulated(clock.now(), stream_hours=6, days=2)
    before = dict(os.environ)
    try:
        with system.state_folder(tmp_path_factory.mktemp("loop")) as folder, Supervisor() as supervisor:
            running = system.start(
                supervisor, folder, source.catalogue, source.inventory, overrides={"history_days": 3}
            )
            demo = Demo(source, running, Console(quiet=True))
            summary = demo.run()
            yield demo, summary
    finally:
        os.environ.clear()
        os.environ.update(before)
        configuration.load.cache_clear()
        aws.forget()
