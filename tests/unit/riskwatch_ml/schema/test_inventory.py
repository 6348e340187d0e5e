"""The inventory: defaults, files, objects in the bucket, tags."""

import pytest

from riskwatch_ml.core.accounts import Shard
from riskwatch_ml.schema import catalogue, inventory
from riskwatch_ml.schema.catalogue import Catalogue
from riskwatch_ml.schema.inventory import Instance, InventoryError
from riskwatch_ml.storage import keys as storage_keys
from riskwatch_ml.storage import known_instances


class Objects:
    """The methods that the inventory needs of a store."""

    def __init__(self, objects):
        self.objects = objects

    def get_bytes(self, key):
        return self.objects.get(key)

    def keys(self, prefix):
        return sorted(key for key in self.objects if key.startswith(prefix))


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
        ('{"web-1": {}}', 'no object "instances"'),
        ('{"instances": {"web-1": {"rol": "web"}}}', "web-1"),
        ('{"instances": {"web-1": {"role": ""}}}', "role is ''"),
    ],
)
def test_errors_say_which_instance(text, words):
    # GIVEN / WHEN / THEN
    with pytest.raises(InventoryError, match=words):
        inventory.parse(text)


def test_load_prefers_the_file_and_lives_without_either(tmp_path):
    # GIVEN a file and an object
    path = tmp_path / "inventory.json"
    path.write_text('{"instances": {"a": {}}}')
    stored = Objects({storage_keys.INVENTORY: b'{"instances": {"b": {}}}'})

    # WHEN / THEN
    assert list(known_instances.load(path, stored)) == ["a"]
    assert list(known_instances.load(None, stored)) == ["b"]
    assert known_instances.load(None, Objects({})) == {}
    with pytest.raises(InventoryError, match="cannot be read"):
        known_instances.load(tmp_path / "absent.json", stored)


def resource(arn, **tags):
    return {"ResourceARN": arn, "Tags": [{"Key": f"riskwatch:{key}", "Value": value} for key, value in tags.items()]}


def test_tags_give_role_and_service():
    # GIVEN an instance, a database and a resource with one tag only, as the tagging API lists them
    found = inventory.of_tags(
        [
            resource("arn:aws:ec2:eu-west-1:123456789012:instance/i-0123456789abcdef0", role="web", service="shop"),
            resource("arn:aws:rds:eu-west-1:123456789012:db:orders", service="shop"),
            resource("arn:aws:ec2:eu-west-1:123456789012:instance/i-00000000", role=" "),
        ],
        "eu-west-1",
        Shard(region="eu-west-1").qualify,
    )

    # WHEN / THEN a database is known by its shard, an absent or empty tag is as none
    assert found == {
        "i-0123456789abcdef0": Instance("i-0123456789abcdef0", "web", "shop", "eu-west-1"),
        "eu-west-1:orders": Instance("eu-west-1:orders", "default", "shop", "eu-west-1"),
        "i-00000000": Instance("i-00000000", "default", "i-00000000", "eu-west-1"),
    }
    assert inventory.parse(inventory.dumps(found)) == found


def test_what_is_said_by_hand_wins_over_tags():
    # GIVEN two shards' tags, and one of their instances by hand
    stored = Objects(
        {
            storage_keys.tagged("a"): b'{"instances": {"x": {"role": "web"}, "y": {"role": "web"}}}',
            storage_keys.tagged("b"): b'{"instances": {"b:z": {"role": "database"}}}',
            storage_keys.INVENTORY: b'{"instances": {"y": {"role": "worker"}}}',
        }
    )

    # WHEN
    found = known_instances.load(None, stored)

    # THEN
    assert {key: item.role for key, item in found.items()} == {"x": "web", "y": "worker", "b:z": "database"}


def test_an_instance_belongs_to_one_shard():
    # GIVEN one that says its shard, one whose id does, and one that says nothing
    known = inventory.parse('{"instances": {"i-00000000": {"shard": "eu-west-1"}, "eu-west-1:db": {}, "host": {}}}')

    # WHEN / THEN
    assert inventory.of_shard(known, "eu-west-1") == ["eu-west-1:db", "i-00000000"]
    assert inventory.of_shard(known, "default") == ["host"]
    assert inventory.of_shard(known, "us-east-1") == []


def test_a_broken_object_is_named():
    # GIVEN / WHEN / THEN
    with pytest.raises(InventoryError, match=r"inventory/a\.json: the inventory is not JSON"):
        known_instances.load(None, Objects({storage_keys.tagged("a"): b"{"}))


def test_shards_that_are_gone_leave_nothing():
    # GIVEN / WHEN / THEN
    keys = ["inventory/a.json", "inventory/b.json"]
    assert storage_keys.leftover_tagged(keys, ["b"]) == ["inventory/a.json"]


def test_types_of_resources_follow_the_catalogue():
    # GIVEN / WHEN / THEN
    assert inventory.resource_types(catalogue.load()) == ["ec2:instance"]
    assert inventory.resource_types(catalogue.load("rds")) == ["rds:db"]
    assert inventory.resource_types(Catalogue((catalogue.unknown("Depth", "My/App"),))) == []
