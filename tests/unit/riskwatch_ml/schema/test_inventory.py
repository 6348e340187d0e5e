"""The inventory: defaults, errors, tags."""

import pytest

from riskwatch_ml.core.accounts import AccountRegion
from riskwatch_ml.schema import catalogue, inventory
from riskwatch_ml.schema.inventory import Instance, InventoryError


def test_parse_fills_in_defaults():
    # GIVEN one full and one empty entry
    found = inventory.parse('{"instances": {"web-1": {"role": "web", "service": "shop"}, "db-1": {}}}')

    # WHEN / THEN an absent service is the instance itself
    assert found["web-1"] == Instance("web-1", "web", "shop")
    assert found["db-1"] == Instance("db-1", "default", "db-1")
    assert inventory.lookup(found, "new") == Instance("new", "default", "new")
    assert inventory.parse(inventory.dumps(found)) == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("9" * 5_000, "not JSON"),
        ('{"instances": {"": {}}}', "an entry has an empty id"),
        ('{"web-1": {}}', 'no object "instances"'),
        ('{"instances": {"web-1": {"rol": "web"}}}', "web-1"),
        ('{"instances": {"web-1": {"role": ""}}}', "role is ''"),
        ('{"instances": {"web-1": {"depends_on": "db-1"}}}', "web-1: depends_on is 'db-1': write a list"),
        ('{"instances": {"web-1": {"depends_on": [1]}}}', r"web-1: depends_on is \[1\]: write a list"),
        ('{"instances": {"web-1": {"depends_on": [""]}}}', r"web-1: depends_on is \[''\]: write a list"),
        ('{"instances": {"web-1": {"depends_on": ["web-1"]}}}', "web-1: depends_on names the instance itself"),
        ('{"instances": {"web-1": {"depends_on": ["a", "a"]}}}', "web-1: depends_on names a twice"),
    ],
)
def test_errors_say_which_instance(text, words):
    # GIVEN / WHEN / THEN
    with pytest.raises(InventoryError, match=words):
        inventory.parse(text)


def test_dependencies_are_read_and_kept():
    # GIVEN instances that need others, of which one is outside the inventory
    found = inventory.parse(
        '{"instances": {"web-1": {"role": "web", "depends_on": ["db-2", "app/shop/1"]}, "db-1": {"depends_on": []}}}'
    )

    # WHEN / THEN their order stays, and an empty list is none
    assert found["web-1"] == Instance("web-1", "web", "web-1", depends_on=("db-2", "app/shop/1"))
    assert found["db-1"].depends_on == ()
    text = inventory.dumps(found)
    assert inventory.parse(text) == found
    assert text.count("depends_on") == 1


def resource(arn, **tags):
    return {"ResourceARN": arn, "Tags": [{"Key": f"riskwatch:{key}", "Value": value} for key, value in tags.items()]}


def test_tags_give_role_and_service():
    # GIVEN an instance, a database and a resource with one tag only, as the tagging API lists them
    found = inventory.from_tags(
        [
            resource("arn:aws:ec2:eu-west-1:123456789012:instance/i-0123456789abcdef0", role="web", service="shop"),
            resource("arn:aws:rds:eu-west-1:123456789012:db:orders", service="shop"),
            resource("arn:aws:ec2:eu-west-1:123456789012:instance/i-00000000", role=" "),
        ],
        "(?:instance/|db:)(.+)",
        "eu-west-1",
        AccountRegion(region="eu-west-1").qualify,
    )

    # WHEN / THEN a database is known by its shard, an absent or empty tag is as none
    assert found == {
        "i-0123456789abcdef0": Instance("i-0123456789abcdef0", "web", "shop", "eu-west-1"),
        "eu-west-1:orders": Instance("eu-west-1:orders", "default", "shop", "eu-west-1"),
        "i-00000000": Instance("i-00000000", "default", "i-00000000", "eu-west-1"),
    }
    assert inventory.parse(inventory.dumps(found)) == found


def test_an_instance_belongs_to_one_shard():
    # GIVEN one with a shard, one with a shard in its id, and one without
    known = inventory.parse('{"instances": {"i-00000000": {"shard": "eu-west-1"}, "eu-west-1:db": {}, "host": {}}}')

    # WHEN / THEN
    assert inventory.in_account(known, "eu-west-1") == ["eu-west-1:db", "i-00000000"]
    assert inventory.in_account(known, "default") == ["host"]
    assert inventory.in_account(known, "us-east-1") == []


@pytest.mark.parametrize(
    ("kind", "arn", "name"),
    [
        ("ec2", "arn:aws:ec2:eu-west-1:123456789012:instance/i-0abc", "i-0abc"),
        ("rds", "arn:aws:rds:eu-west-1:123456789012:db:orders", "orders"),
    ],
)
def test_the_name_of_a_tagged_resource_is_in_its_arn(kind, arn, name):
    # GIVEN a resource of the kind and one of another kind
    tags = [{"Key": "riskwatch:role", "Value": "web"}]
    resources = [{"ResourceARN": text, "Tags": tags} for text in (arn, "arn:aws:s3:::a-bucket")]

    # WHEN / THEN
    found = inventory.from_tags(resources, catalogue.load(kind).arn, "default", str)
    assert list(found) == [name]
