"""Every benchmark can be imported: the names that it imports still exist."""

import importlib
import pkgutil

import pytest

import bench


@pytest.mark.parametrize("name", [module.name for module in pkgutil.iter_modules(bench.__path__)])
def test_a_benchmark_can_be_imported(name):
    module = importlib.import_module(f"bench.{name}")
    assert module.__doc__
