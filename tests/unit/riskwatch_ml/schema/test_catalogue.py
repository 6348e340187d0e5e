"""The catalogue: the packaged defaults, files, and what is refused."""

import json
from pathlib import Path

import botocore.session
import pytest

from riskwatch_ml.schema import catalogue
from riskwatch_ml.schema.catalogue import Catalogue
from riskwatch_ml.schema.metric import UNITS, CatalogueError, Metric, metric_without_entry

AGENT = Path(__file__).parents[4] / "infra" / "riskwatch_infra" / "cloudwatch-agent.json"


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
    odd = Metric(
        'q"uote'.replace('"', ""), "My/App", 'Q "x" \\ ü', aliases=('a "b"',), lower=-1.5, period_s=900, absent=0.0
    )
    written = Catalogue((*catalogue.load().metrics, odd, metric_without_entry("CPUCreditBalance", "AWS/EC2")))
    path = tmp_path / "catalogue.toml"

    # WHEN it is written and read
    path.write_text(catalogue.dumps(written), encoding="utf-8")

    # THEN nothing changed
    assert catalogue.load(path) == written


def test_unknown_metric_has_no_bounds_and_no_direction():
    # GIVEN / WHEN
    found = metric_without_entry("CPUCreditBalance", "AWS/EC2")

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
        metric_without_entry(name, "My/App")


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
        ('name = "a"\nnamespace = "n"\nmetric = "m"\nperiod_s = "300"', "write whole seconds"),
        ('name = "a"\nnamespace = "n"\nmetric = "m"\nperiod_s = 90', "period_s is 90: use a multiple of 60"),
        ('name = "a"\nnamespace = "n"\nmetric = "m"\nstat = "Mean"', "stat is 'Mean': use Average"),
        (
            'name = "a"\nnamespace = "n"\nmetric = "m"\ncloudwatch_unit = "Byte"',
            "cloudwatch_unit is 'Byte': use one of",
        ),
        ('name = "a"\nnamespace = "n"\nmetric = "m"\nunit = 3', "unit is 3: write it in quotes"),
        ('name = "a"\nnamespace = "n"\nmetric = "m"\naliases = "x"', "write a list of names"),
        ('name = "a"\nnamespace = "n"\nmetric = "m"\ndimensions = "x"', "dimensions is 'x'"),
        (
            'name = "a"\nnamespace = "n"\nmetric = "m"\nexhaustion = 9\ndirection = "down"',
            "the harmful direction is down",
        ),
        (
            'name = "a"\nnamespace = "n"\nmetric = "m"\nlower = 1\nabsent = 0',
            "absent is 0.0, outside of its bounds: use a value that the metric can have",
        ),
        ('name = "a"\nnamespace = "n"\nmetric = "m"\nabsent = "0"', "absent is '0': write a number"),
    ],
)
def test_wrong_entries_are_named(tmp_path, entry, words):
    # GIVEN a file with one wrong entry
    path = tmp_path / "catalogue.toml"
    path.write_text(f"[[metrics]]\n{entry}\n")

    # WHEN / THEN the message names the file too
    with pytest.raises(CatalogueError, match=words) as error:
        catalogue.load(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    "text", ["", "metrics = 1", "metrics = {}", "metrics = [1]", 'metrics = ["a"]', "metrics = [[]]"]
)
def test_a_catalogue_needs_tables_of_metrics(tmp_path, text):
    # GIVEN a file whose metrics have another form
    path = tmp_path / "catalogue.toml"
    path.write_text(text)

    # WHEN / THEN
    with pytest.raises(CatalogueError, match=r"expected \[\[metrics\]\] tables"):
        catalogue.load(path)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ("colour = 1", "unknown key 'colour'"),
        ('silent_when_idle = "yes"', "silent_when_idle is .yes.: write true or false"),
        ("title = 1", "title is 1"),
        ('kind = "RDS"', "kind is 'RDS'"),
        ('load_metrics = ["cpu"]', "load_metrics is"),
        ("load_metrics = 1", "load_metrics is 1"),
        ('arn = "db:(.+)"', "belong together"),
        ('resource_type = "rds:db"\narn = "db:("', "no regular expression"),
        ('resource_type = "rds:db"\narn = "db:.+"', "one pair of parentheses"),
    ],
)
def test_what_a_catalogue_says_of_its_kind_is_checked(tmp_path, head, words):
    # GIVEN
    path = tmp_path / "catalogue.toml"
    path.write_text(f'{head}\n[[metrics]]\nname = "a"\nnamespace = "N"\nmetric = "M"\n')

    # WHEN / THEN the message names the file too
    with pytest.raises(CatalogueError, match=words) as error:
        catalogue.load(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"never_high_below": 60.0, "never_idle_above": 40.0}, "never_high_below 60.0 lies above"),
        ({"never_idle_above": float("inf")}, "never_idle_above is inf"),
    ],
)
def test_wrong_settings_of_a_metric_are_named(changes, words):
    with pytest.raises(CatalogueError, match=words):
        Metric("cpu", "N", "M", **changes)


@pytest.mark.parametrize(
    ("stat", "factor"),
    [("Sum", 1 / 12), ("SampleCount", 1 / 12), ("ts99", 1 / 12), ("TC(1:2)", 1 / 12), ("p99", 1), ("tm99", 1)],
)
def test_a_coarser_value_of_a_sum_or_count_is_shared(stat, factor):
    # GIVEN / WHEN / THEN the factor from an hour to 300 s, and none between equal periods
    metric = Metric("a", "N", "M", stat)
    assert metric.share(3600, 300) == pytest.approx(factor)
    assert metric.share(300, 300) == 1


def test_a_part_of_the_name_may_be_in_two_dimensions():
    # GIVEN
    metric = Metric("cpu", "N", "M", dimensions={"InstanceId": "{instance_id}", "Host": "ip-{instance_id}"})

    # WHEN / THEN both must name the same instance
    listed = [{"Name": "InstanceId", "Value": "a"}, {"Name": "Host", "Value": "ip-a"}]
    assert metric.instance_of(listed) == "a"
    assert metric.dimensions_of("a") == listed
    assert metric.instance_of([listed[0], {"Name": "Host", "Value": "ip-b"}]) is None


@pytest.mark.parametrize(
    ("dimension", "resource_type", "arn"),
    [
        ("InstanceId", "ec2:instance", "instance/(.+)"),
        ("DBInstanceIdentifier", "rds:db", "db:(.+)"),
        ("QueueName", "", ""),
    ],
)
def test_a_file_of_an_earlier_release_still_reads_tags(tmp_path, dimension, resource_type, arn):
    # GIVEN a file with nothing but metrics
    path = tmp_path / "catalogue.toml"
    path.write_text(
        f'[[metrics]]\nname = "a"\nnamespace = "N"\nmetric = "M"\ndimensions = {{ {dimension} = "{{instance_id}}" }}\n'
    )

    # WHEN / THEN
    found = catalogue.load(path)
    assert (found.kind, found.resource_type, found.arn) == ("ec2", resource_type, arn)


def test_the_metrics_of_a_kind_name_its_instances_in_one_way():
    by_cluster = {"ClusterName": "{cluster}", "ServiceName": "{service}"}
    with pytest.raises(CatalogueError, match="in 2 ways"):
        Catalogue((Metric("a", "N", "A"), Metric("b", "N", "B", dimensions=by_cluster)))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'name = "\xff"', "is not valid TOML: 'utf-8' codec"),
        (b"upper = 1" + b"0" * 5000, "is not valid TOML"),
        (b"aliases = " + b"[" * 3000, "is not valid TOML"),
        (b'name = "a"\nnamespace = "n"\nmetric = "m"\nupper = 1' + b"0" * 400, "upper is too large: write a number"),
    ],
    ids=["not UTF-8", "thousands of digits", "thousands of brackets", "beyond a float"],
)
def test_a_file_that_no_parser_reads_is_refused_by_name(tmp_path, content, words):
    # GIVEN / WHEN / THEN
    path = tmp_path / "catalogue.toml"
    path.write_bytes(b"[[metrics]]\n" + content)
    with pytest.raises(CatalogueError, match=words):
        catalogue.load(path)


def test_databases_have_a_profile():
    # GIVEN / WHEN the catalogue of databases is asked for by its name
    found = catalogue.load("rds")

    # THEN its metrics are those of a database, in the units that AWS publishes, and the levels find theirs
    assert {metric.namespace for metric in found.metrics} == {"AWS/RDS"}
    assert found.by_name["cpu_utilization"].dimensions_of("db-1") == [{"Name": "DBInstanceIdentifier", "Value": "db-1"}]
    latency = found.by_name["latency_ms"]
    assert (latency.metric, latency.cloudwatch_unit, latency.scale) == ("ReadLatency", "Seconds", 1000.0)
    assert {name for group in found.load_metrics for name in group} <= set(found.names)
    assert (found.kind, found.resource_type) == ("rds", "rds:db")
    assert catalogue.load("ec2") == catalogue.load()


def test_units_are_those_of_cloudwatch():
    # GIVEN the units in botocore's model of the service
    model = botocore.session.get_session().get_service_model("cloudwatch")

    # WHEN / THEN
    assert set(model.shape_for("StandardUnit").enum) == UNITS


def test_a_catalogue_that_is_not_there_names_the_profiles(tmp_path):
    # GIVEN / WHEN / THEN
    with pytest.raises(CatalogueError, match=r"cannot be read .* or name one of alb, asg, .*, ec2, .*, rds, sqs"):
        catalogue.load(tmp_path / "absent.toml")


def test_the_agent_is_told_to_collect_what_the_catalogue_reads():
    # GIVEN the agent's configuration beside the template
    agent = json.loads(AGENT.read_text(encoding="utf-8"))["metrics"]
    collected = {
        name if name.startswith(f"{plugin}_") or plugin == "statsd" else f"{plugin}_{name}"
        for plugin, options in agent["metrics_collected"].items()
        for name in options.get("measurement", ["latency_ms"])
    }

    # WHEN / THEN every metric of its namespace is one of them, by instance
    in_catalogue = {metric.metric for metric in catalogue.load().metrics if metric.namespace == agent["namespace"]}
    assert in_catalogue == collected
    assert agent["aggregation_dimensions"] == [["InstanceId"]]


def test_an_alias_belongs_to_one_metric():
    # GIVEN two metrics with one alias
    metrics = (Metric("a", "n", "m", aliases=("x",)), Metric("b", "n", "m", aliases=("x",)))

    # WHEN / THEN
    with pytest.raises(CatalogueError, match="'x' is used twice"):
        Catalogue(metrics)
