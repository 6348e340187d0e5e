"""`riskwatch import` and `riskwatch stream` in an installation with several kinds of resources."""

from datetime import UTC, datetime

import pytest

from riskwatch_cli.csv import kinds
from riskwatch_ml.schema import catalogue

HEAD = "timestamp,instance,CPUUtilization,DatabaseConnections\n"
DAY = datetime(2025, 2, 17, tzinfo=UTC), datetime(2025, 2, 18, tzinfo=UTC)
DATABASES = HEAD + "".join(
    f"2025-02-17T00:{5 * index:02d}:00Z,{name},{cpu},40\n"
    for name in ("users", "orders")
    for index, cpu in enumerate((20, 60))
)


@pytest.fixture
def two_kinds(cloud):
    """An installation of instances and databases in two regions, with a live model of both."""
    cloud.use(catalogue=("ec2", "rds"), regions=("eu-west-1", "us-east-1"))
    cloud.function.kinds = {
        "rds": {"model_id": "d-1", "features": ["cpu_utilization", "active_connections"], "context_rows": 2}
    }
    return cloud


def test_rows_of_a_kind_go_to_its_layers_under_its_ids(two_kinds, run):
    # GIVEN / WHEN a file of databases is imported, and one of them again
    result = run("import", DATABASES, "--kind", "rds")
    run("import", DATABASES, "--kind", "rds", "--instance", "orders")

    # THEN
    assert result.exit_code == 0
    assert "4 rows = 4 validated + 0 quarantined" in result.output
    for layer in ("raw/kind=rds", "validated/kind=rds"):
        rows = two_kinds.store.read_hours(layer, *DAY)
        assert rows["instance_id"].tolist() == ["rds/orders", "rds/orders", "rds/users", "rds/users"]
        assert rows["active_connections"].tolist() == [40] * 4
    assert not [key for key in two_kinds.s3.objects if key.startswith(("raw/dt=", "validated/dt="))]


def test_refused_rows_of_a_kind_stay_with_it(two_kinds, run):
    # GIVEN / WHEN a row has an impossible value, and one nothing else
    run("import", HEAD + "2025-02-17T00:00:00Z,a,288,40\n2025-02-17T00:05:00Z,a,-1,-2\n", "--kind", "rds")

    # THEN
    counts = {
        layer: len(two_kinds.store.read_hours(f"{layer}/kind=rds", *DAY))
        for layer in ("validated", "quarantine", "quarantine/values")
    }
    assert counts == {"validated": 1, "quarantine": 1, "quarantine/values": 1}
    assert {key.split("/kind=")[1][:3] for key in two_kinds.s3.objects if "dt=" in key} == {"rds"}


def test_an_import_again_without_some_rows_removes_them_from_the_layers_of_the_kind(two_kinds, run):
    # GIVEN rows of three days, too far apart to be validated together
    days = HEAD + "".join(f"2025-02-{day}T00:00:00Z,a,{day},40\n" for day in (17, 21, 25))
    run("import", days, "--kind", "rds")

    # WHEN the file comes again without the day between
    run("import", "".join(line + "\n" for line in days.splitlines() if "-21T" not in line), "--kind", "rds")

    # THEN
    rows = two_kinds.store.read_hours("validated/kind=rds", DAY[0], datetime(2025, 2, 26, tzinfo=UTC))
    assert rows["cpu_utilization"].tolist() == [17, 25]


def test_the_first_kind_is_the_default(two_kinds, run):
    # GIVEN / WHEN the same file is imported as instances, by default and by name
    for options in ((), ("--kind", "ec2")):
        run("import", DATABASES, *options)

        # THEN ids are plain, and keys have no kind
        assert set(two_kinds.store.read_hours("validated", *DAY)["instance_id"]) == {"orders", "users"}
        assert not [key for key in two_kinds.s3.objects if "kind=" in key]


def test_rows_of_a_kind_are_streamed_with_its_part_of_the_live_model(two_kinds, run):
    # GIVEN an inventory that knows one of the databases
    two_kinds.store.put_json("config/inventory.json", {"instances": {"rds/orders": {"role": "db", "service": "shop"}}})

    # WHEN
    result = run("stream", DATABASES, "--kind", "rds")

    # THEN the packs name the kind, its features, and the role of the inventory
    assert result.exit_code == 0
    assert "4 rows = 4 labelled + 0 quarantined; model d-1" in result.output
    packs = {pack["service"]: pack for pack in two_kinds.function.records}
    assert set(packs) == {"shop", "rds/users"}
    assert {pack["kind"] for pack in packs.values()} == {"rds"}
    assert packs["shop"]["features"] == ["cpu_utilization", "active_connections"]
    (entry,) = packs["shop"]["instances"]
    assert (entry["id"], entry["role"], entry["columns"]) == ("rds/orders", "db", [[20, 60], [40, 40]])


def test_rows_of_the_first_kind_are_streamed_without_a_kind(two_kinds, run):
    # GIVEN / WHEN
    result = run("stream", DATABASES)

    # THEN
    assert "; model m-1" in result.output
    assert ["kind" in pack for pack in two_kinds.function.records] == [False, False]


@pytest.mark.parametrize("command", ["import", "stream"])
@pytest.mark.parametrize(
    ("options", "content", "message"),
    [
        (("--kind", "sqs"), DATABASES, "--kind is 'sqs', and the setting catalogue has ec2, rds: name one of these"),
        ((), DATABASES.replace("orders", "rds/orders"), "web.csv: refused as instances of the kind ec2: rds/orders."),
    ],
)
def test_a_kind_that_cannot_be_used_ends_in_one_message(two_kinds, run, command, options, content, message):
    # GIVEN / WHEN
    result = run(command, content, *options)

    # THEN nothing is written or sent
    assert result.exit_code == 1
    assert result.stderr.startswith(f"riskwatch: {message}")
    assert len(result.stderr.splitlines()) == 1
    assert (two_kinds.s3.objects, two_kinds.function.records) == ({}, [])


def test_a_kind_that_the_live_model_lacks_is_not_streamed(two_kinds, run):
    # GIVEN a model of an earlier release
    two_kinds.function.kinds = {}

    # WHEN
    result = run("stream", DATABASES, "--kind", "rds")

    # THEN
    assert result.exit_code == 1
    assert "the live model has no part for the kind rds, it has ec2: import or export days of rows" in result.stderr
    assert two_kinds.function.records == []


def test_ids_are_those_of_an_export(two_kinds, run):
    # GIVEN plain names, names of a region, ids, and a name with a colon that is no region
    names = ["orders", "eu-west-1:orders", "rds/users", "us-east-1:rds/users", "blue:green"]
    content = HEAD + "".join(f"2025-02-17T00:00:00Z,{name},20,40\n" for name in names)

    # WHEN
    run("import", content, "--kind", "rds")

    # THEN
    assert two_kinds.store.read_hours("raw/kind=rds", *DAY)["instance_id"].tolist() == sorted(
        ["rds/orders", "eu-west-1:rds/orders", "rds/users", "us-east-1:rds/users", "rds/blue:green"]
    )


def test_without_a_name_the_kind_is_the_first():
    # GIVEN / WHEN / THEN
    installed = catalogue.load_all(("rds", "alb"))
    assert [kinds.select(installed, name).kind for name in (None, "rds", "alb")] == ["rds", "rds", "alb"]
