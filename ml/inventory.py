"""Which role and service an instance has: read from a JSON file, or from `config/inventory.json` in the bucket.

{"instances": {"web-1": {"role": "web", "service": "shop"}}}
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

KEY = "config/inventory.json"
DEFAULT_ROLE = "default"


class InventoryError(ValueError):
    """The inventory cannot be used; the message names the instance and the fix."""


@dataclass(frozen=True)
class Instance:
    """One instance: its role names the baseline used while it has none of its own, its service groups its alerts."""

    instance_id: str
    role: str = DEFAULT_ROLE
    service: str = ""

    def __post_init__(self) -> None:
        if not self.service:
            object.__setattr__(self, "service", self.instance_id)


class _Reads(Protocol):
    def get_bytes(self, key: str) -> bytes | None: ...


def parse(text: str) -> dict[str, Instance]:
    """Read the JSON form. Raises InventoryError where it is no JSON or an entry is not an object of two names."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise InventoryError(f"the inventory is not JSON: {error}") from error
    entries = document.get("instances") if isinstance(document, dict) else None
    if not isinstance(entries, dict):
        raise InventoryError('the inventory has no object "instances": write {"instances": {"web-1": {"role": "web"}}}')
    return {instance_id: _instance(instance_id, entry) for instance_id, entry in entries.items()}


def dumps(inventory: Mapping[str, Instance]) -> str:
    """Write the JSON form, sorted, so that equal inventories are equal texts."""
    entries = {key: {"role": item.role, "service": item.service} for key, item in sorted(inventory.items())}
    return json.dumps({"instances": entries}, indent=1) + "\n"


def lookup(inventory: Mapping[str, Instance], instance_id: str) -> Instance:
    """Return the instance, with role "default" and itself as service where the inventory does not have it."""
    return inventory.get(instance_id) or Instance(instance_id)


def load(path: str | Path | None, store: _Reads) -> dict[str, Instance]:
    """Read the inventory file, or without a path `config/inventory.json` in the bucket; empty where that is absent."""
    if path is not None:
        try:
            return parse(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise InventoryError(f"inventory {path} cannot be read ({error.strerror}): correct the path") from error
    data = store.get_bytes(KEY)
    return {} if data is None else parse(data.decode("utf-8"))


def _instance(instance_id: str, entry: object) -> Instance:
    if not isinstance(entry, dict) or not set(entry) <= {"role", "service"}:
        raise InventoryError(f'{instance_id}: the entry is {entry!r}: use {{"role": "web", "service": "shop"}}')
    for key, value in entry.items():
        if not isinstance(value, str) or not value:
            raise InventoryError(
                f"{instance_id}: {key} is {value!r}: use a name that is not empty, or leave the key out"
            )
    return Instance(instance_id, entry.get("role", DEFAULT_ROLE), entry.get("service", instance_id))
