"""The catalogues of an installation with several kinds: ids, and what is refused."""

import pytest

from riskwatch_ml.schema import catalogue
from riskwatch_ml.schema.metric import CatalogueError


def test_the_first_kind_has_plain_ids_and_the_others_begin_with_their_kind():
    # GIVEN
    ec2, rds = catalogue.load_all(("ec2", "rds"))

    # WHEN / THEN a name leads to an id and back
    assert (ec2.qualify("web-1"), rds.qualify("orders")) == ("web-1", "rds/orders")
    assert (ec2.local("web-1"), rds.local("rds/orders")) == ("web-1", "orders")
    assert (ec2.label("cpu"), rds.label("cpu")) == ("cpu", "rds/cpu")
    assert catalogue.load_all() == (catalogue.load("ec2"),)


def test_ids_of_ec2_are_plain_wherever_its_catalogue_stands():
    # GIVEN
    rds, ec2 = catalogue.load_all(("rds", "ec2"))

    # WHEN / THEN
    assert ec2.qualify("i-0123456789abcdef0") == ec2.local("i-0123456789abcdef0") == "i-0123456789abcdef0"
    assert (ec2.qualify("host"), rds.qualify("orders")) == ("ec2/host", "orders")


@pytest.mark.parametrize(
    ("instance_id", "kind"),
    [
        ("web-1", "ec2"),
        ("rds/orders", "rds"),
        ("123456789012.eu-west-1:rds/orders", "rds"),
        ("123456789012.eu-west-1:web-1", "ec2"),
        ("i-0123456789abcdef0", "ec2"),
        ("rdsx/orders", "ec2"),
        ("rds/orders:6379", "rds"),
        ("host:6379", "ec2"),
    ],
)
def test_an_id_tells_its_kind(instance_id, kind):
    assert catalogue.of_instance(instance_id, catalogue.load_all(("ec2", "rds"))).kind == kind


def test_catalogues_of_one_kind_and_units_that_differ_are_refused(tmp_path):
    # GIVEN
    path = tmp_path / "queues.toml"
    path.write_text('kind = "queue"\n[[metrics]]\nname = "latency_ms"\nunit = "s"\nnamespace = "N"\nmetric = "M"\n')

    # WHEN / THEN
    with pytest.raises(CatalogueError, match="two catalogues are of the kind 'rds'"):
        catalogue.load_all(("rds", "rds"))
    with pytest.raises(CatalogueError, match="latency_ms has the unit 'ms' in ec2 and 's' in queue"):
        catalogue.load_all(("ec2", str(path)))


def test_two_catalogues_of_ec2_instances_are_refused(tmp_path):
    # GIVEN a file that reads EC2 instances under a kind of its own
    path = tmp_path / "mine.toml"
    path.write_text('kind = "mine"\n[[metrics]]\nname = "a"\nnamespace = "N"\nmetric = "M"\n')

    # WHEN / THEN
    with pytest.raises(CatalogueError, match="'mine' and 'ec2' both read EC2 instances"):
        catalogue.load_all((str(path), "ec2"))


def test_names_that_read_like_ids_of_another_kind_are_refused_by_name():
    # GIVEN
    ec2, rds = kinds = catalogue.load_all(("ec2", "rds"))

    # WHEN / THEN
    assert catalogue.misread(["rds/orders"], rds, kinds) == ""
    listed = ["web-1", "rds/orders"]
    assert catalogue.names_of_kind(listed, ec2, kinds) == {"web-1"}
    assert catalogue.misread(listed, ec2, kinds).startswith("refused as instances of the kind ec2: rds/orders.")
