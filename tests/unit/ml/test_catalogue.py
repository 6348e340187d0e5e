"""The catalogue: the packaged defaults, files, and what is refused."""

import pytest

from ml import catalogue
from ml.catalogue import Catalogue, CatalogueError, Metric


def test_packaged_defaults():
    # GIVEN / WHEN the packaged catalogue is read
    found = catalogue.load()

    # THEN the ten features stand in their order with units and harmful directions
    assert found.names == (
        "cpu_utilization",
        "memory_utilization",
        "disk_read_mb",
        "disk_write_mb",
        "network_in_mb",
        "network_out_mb",
        "latency_ms",
        "disk_queue_length",
        "running_processes",
        "active_connections",
    )
    read = found.by_name["disk_read_mb"]
    assert (read.namespace, read.metric, read.stat, read.scale, read.lower, read.upper) == (
        "AWS/EC2",
        "EBSReadBytes",
        "Sum",
        1e-6,
        0.0,
        None,
    )
    assert found.by_name["memory_utilization"].exhaustion == 95.0
    assert [metric.direction for metric in found.metrics].count("both") == 4
    assert read.dimensions_of("i-1") == [{"Name": "InstanceId", "Value": "i-1"}]


def test_written_catalogue_reads_back_equal(tmp_path):
    # GIVEN a catalogue with an awkward alias and a metric outside of the defaults
    odd = Metric('q"uote'.replace('"', ""), "My/App", 'Q "x" \\ ü', aliases=('a "b"',), lower=-1.5)
    written = Catalogue((*catalogue.load().metrics, odd, catalogue.unknown("CPUCreditBalance", "AWS/EC2")))
    path = tmp_path / "catalogue.toml"

    # WHEN it is written and read
    path.write_text(catalogue.dumps(written), encoding="utf-8")

    # THEN nothing changed
    assert catalogue.load(path) == written


def test_unknown_metric_has_no_bounds_and_no_direction():
    # GIVEN / WHEN
    found = catalogue.unknown("CPUCreditBalance", "AWS/EC2")

    # THEN
    assert (found.name, found.lower, found.upper, found.direction, found.scale) == (
        "cpu_credit_balance",
        None,
        None,
        "both",
        1.0,
    )
    assert found.aliases == ("CPUCreditBalance",)


@pytest.mark.parametrize("name", ["timestamp", "score", "label", "reasons"])
def test_columns_of_labelled_rows_are_reserved(name):
    # GIVEN / WHEN / THEN
    with pytest.raises(CatalogueError, match=name):
        catalogue.unknown(name, "My/App")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ('name = "a"\nnamespace = "n"', "metric is missing"),
        ('name = "a"\nnamespace = "n"\nmetric = "m"\nscal = 2', "unknown key 'scal'"),
        ('name = "a"\nnamespace = "n"\nmetric = "m"\nlower = 2\nupper = 1', "lower 2.0 is not below upper 1.0"),
        ('name = "a"\nnamespace = "n"\nmetric = "m"\nscale = 0', "scale is 0"),
        ('name = "a"\nnamespace = "n"\nmetric = "m"\ndirection = "left"', "direction is 'left'"),
        ('name = "a"\nnamespace = "n"\nmetric = "m"\ndimensions = { Host = "x" }', "no dimension names the instance"),
        ('name = "a"\nnamespace = "n"\nmetric = "m"\nupper = "9"', "write a number"),
    ],
)
def test_wrong_entries_are_named(tmp_path, entry, words):
    # GIVEN a file with one wrong entry
    path = tmp_path / "catalogue.toml"
    path.write_text(f"[[metrics]]\n{entry}\n")

    # WHEN / THEN
    with pytest.raises(CatalogueError, match=words):
        catalogue.load(path)


def test_an_alias_belongs_to_one_metric():
    # GIVEN two metrics with one alias
    metrics = (Metric("a", "n", "m", aliases=("x",)), Metric("b", "n", "m", aliases=("x",)))

    # WHEN / THEN
    with pytest.raises(CatalogueError, match="'x' is used twice"):
        Catalogue(metrics)
