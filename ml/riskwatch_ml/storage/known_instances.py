"""The instances that should report, as they are kept: said by hand in a file or in the bucket, and by tags.

The hourly export leaves what the tags of each shard say in `inventory/SHARD.json`. What is said by hand wins.
"""

from pathlib import Path
from typing import Protocol

from riskwatch_ml.schema.inventory import Instance, InventoryError, parse
from riskwatch_ml.storage import keys


class _Reads(Protocol):
    def get_bytes(self, key: str) -> bytes | None: ...
    def keys(self, prefix: str) -> list[str]: ...


def load(path: str | Path | None, store: _Reads) -> dict[str, Instance]:
    """Return all instances that should report, with role and service, by instance id.

    Tagged ones as the last export of each shard found them, then those of the file at `path`, or without a path of
    `config/inventory.json` in the bucket, which win. Empty where nothing is said.
    """
    found: dict[str, Instance] = {}
    for key in store.keys(keys.TAGGED):
        found |= _stored(key, store)
    return found | _by_hand(path, store)


def _by_hand(path: str | Path | None, store: _Reads) -> dict[str, Instance]:
    if path is not None:
        try:
            return parse(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise InventoryError(f"inventory {path} cannot be read ({error.strerror}): correct the path") from error
    return _stored(keys.INVENTORY, store)


def _stored(key: str, store: _Reads) -> dict[str, Instance]:
    data = store.get_bytes(key)
    try:
        return {} if data is None else parse(data.decode("utf-8"))
    except (UnicodeDecodeError, InventoryError) as error:
        raise InventoryError(f"{key}: {error}") from error
