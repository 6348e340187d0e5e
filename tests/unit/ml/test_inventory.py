"""The inventory: defaults, files, the object in the bucket."""

import pytest

from ml import inventory
from ml.inventory import Instance, InventoryError


class Objects:
    """The one method that the inventory needs of a store."""

    def __init__(self, objects):
        self.objects = objects

    def get_bytes(self, key):
        return self.objects.get(key)


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
    stored = Objects({inventory.KEY: b'{"instances": {"b": {}}}'})

    # WHEN / THEN
    assert list(inventory.load(path, stored)) == ["a"]
    assert list(inventory.load(None, stored)) == ["b"]
    assert inventory.load(None, Objects({})) == {}
    with pytest.raises(InventoryError, match="cannot be read"):
        inventory.load(tmp_path / "absent.json", stored)
