"""The inventory of the bucket: expected instances by hand and by tags.

The hourly export writes the tagged instances of each account and region to `inventory/NAME.json`. Entries by hand take
precedence over tags.
"""

from pathlib import Path
from typing import Protocol

from riskwatch_ml.schema.inventory import Instance, InventoryError, parse
from riskwatch_ml.storage import keys


class _Reads(Protocol):
    def get_bytes(self, key: str) -> bytes | None: ...
    def keys(self, prefix: str) -> list[str]: ...


def load(path: str | Path | None, store: _Reads) -> dict[str, Instance]:
    """Return the expected instances, with role and service, by instance id.

    These are the tagged instances of the last export of each account and region, and the entries by hand: those of the
    file at `path`, or of `config/inventory.json` in the bucket if `path` is None. Raises InventoryError if a file or
    object is not valid.
    """
    tagged: dict[str, Instance] = {}
    for key in store.keys(keys.TAGGED):
        tagged |= _stored(key, store)
    return tagged | _by_hand(path, store)


def _by_hand(path: str | Path | None, store: _Reads) -> dict[str, Instance]:
    if path is not None:
        try:
            return parse(Path(path).read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise InventoryError(f"inventory {path} is not UTF-8 ({error}): save it as UTF-8") from error
        except OSError as error:
            raise InventoryError(f"inventory {path} cannot be read ({error.strerror}): correct the path") from error
    return _stored(keys.INVENTORY, store)


def _stored(key: str, store: _Reads) -> dict[str, Instance]:
    data = store.get_bytes(key)
    try:
        return {} if data is None else parse(data.decode("utf-8"))
    except (UnicodeDecodeError, InventoryError) as error:
        raise InventoryError(f"{key}: {error}") from error
