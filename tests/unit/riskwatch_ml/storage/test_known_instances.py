"""Known instances: entries of a file or an object by hand, and tags."""

import pytest

from riskwatch_ml.schema.inventory import InventoryError
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


def test_a_file_that_is_not_utf8_is_named(tmp_path):
    # GIVEN / WHEN / THEN
    path = tmp_path / "inventory.json"
    path.write_bytes(b'{"instances": {"\xff": {}}}')
    with pytest.raises(InventoryError, match=r"inventory .*inventory\.json is not UTF-8"):
        known_instances.load(path, Objects({}))


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


def test_a_broken_object_is_named():
    # GIVEN / WHEN / THEN
    with pytest.raises(InventoryError, match=r"inventory/a\.json: the inventory is not JSON"):
        known_instances.load(None, Objects({storage_keys.tagged("a"): b"{"}))
