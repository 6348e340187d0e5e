"""The inventory: expected instances, each with its role and service.

People write it as JSON:

    {"instances": {"web-1": {"role": "web", "service": "shop", "depends_on": ["orders-db"]}}}

The hourly export reads it from the tags `riskwatch:role` and `riskwatch:service` of the resources. An instance in
either source is expected to report. An instance that only CloudWatch knows has the role "default" and is its own
service. `riskwatch_ml.storage.known_instances` reads both sources.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from riskwatch_lambda.model.baselines import DEFAULT_ROLE
from riskwatch_ml.core import accounts
from riskwatch_ml.core.errors import UserInputError

_NAMES = ("role", "service", "shard")
ROLE_TAG, SERVICE_TAG = "riskwatch:role", "riskwatch:service"


class InventoryError(UserInputError):
    """The inventory is not valid; the message names the instance and the fix."""


@dataclass(frozen=True)
class Instance:
    """One instance with its role and service.

    The role gives the baseline until the instance has one of its own. Alerts are grouped by service. `account_region`
    names the account and region if the id does not contain it, see `riskwatch_ml.core.accounts`. `depends_on` are the
    ids of the instances that this one needs, in the order of the file; they may be outside the inventory.
    """

    instance_id: str
    role: str = DEFAULT_ROLE
    service: str = ""
    account_region: str = ""
    depends_on: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.service:
            object.__setattr__(self, "service", self.instance_id)


def parse(text: str) -> dict[str, Instance]:
    """Return the inventory of a JSON text.

    Raises InventoryError if the text is not JSON, or if an entry is not an object of names.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InventoryError(f"the inventory is not JSON: {error}") from error
    entries = document.get("instances") if isinstance(document, dict) else None
    if not isinstance(entries, dict):
        raise InventoryError('the inventory has no object "instances": write {"instances": {"web-1": {"role": "web"}}}')
    return {instance_id: _instance(instance_id, entry) for instance_id, entry in entries.items()}


def dumps(inventory: Mapping[str, Instance]) -> str:
    """Return the inventory as JSON, sorted: equal inventories give equal texts."""
    entries = {
        key: {
            "role": item.role,
            "service": item.service,
            **({"shard": item.account_region} if item.account_region else {}),
            **({"depends_on": list(item.depends_on)} if item.depends_on else {}),
        }
        for key, item in sorted(inventory.items())
    }
    return json.dumps({"instances": entries}, indent=1) + "\n"


def lookup(inventory: Mapping[str, Instance], instance_id: str) -> Instance:
    """Return an instance of the inventory.

    An instance outside the inventory has the role "default" and is its own service.
    """
    return inventory.get(instance_id) or Instance(instance_id)


def in_account(inventory: Mapping[str, Instance], name: str) -> list[str]:
    """Return the ids of the instances in an account and region, sorted."""
    return sorted(key for key, item in inventory.items() if accounts.of_instance(key, item.account_region) == name)


def from_tags(
    resources: Iterable[Mapping[str, Any]], arn: str, account_region: str, qualify: Callable[[str], str]
) -> dict[str, Instance]:
    """Return the instances among tagged resources, by instance id.

    A resource whose ARN is of another form is of another kind, and left out.

    Parameters
    ----------
    resources
        Resources of GetResources, the listing of the tagging API: ResourceARN and Tags.
    arn
        Regular expression for the last part of an ARN, see `Catalogue.arn`.
    account_region
        Name of the account and region of the resources.
    qualify
        Returns the instance id for the name in an ARN.
    """
    instances = {}
    for resource in resources:
        # arn:partition:service:region:account:resource
        match = re.fullmatch(arn, resource["ResourceARN"].split(":", 5)[-1])
        if match is None:
            continue
        instance_id = qualify(match.group(1))
        tags = {tag["Key"]: tag["Value"].strip() for tag in resource["Tags"]}
        role, service = tags.get(ROLE_TAG) or DEFAULT_ROLE, tags.get(SERVICE_TAG, "")
        instances[instance_id] = Instance(instance_id, role, service, account_region)
    return instances


def _instance(instance_id: str, entry: object) -> Instance:
    if not instance_id:
        raise InventoryError(f"an entry has an empty id: {entry!r}: write the id of the instance, or remove the entry")
    if not isinstance(entry, dict) or not set(entry) <= {*_NAMES, "depends_on"}:
        raise InventoryError(f'{instance_id}: the entry is {entry!r}: use {{"role": "web", "service": "shop"}}')
    for key in _NAMES:
        value = entry.get(key, key)
        if not isinstance(value, str) or not value:
            raise InventoryError(
                f"{instance_id}: {key} is {value!r}: use a name that is not empty, or leave the key out"
            )
    default = Instance(instance_id)
    return Instance(
        instance_id,
        entry.get("role", default.role),
        entry.get("service", instance_id),
        entry.get("shard", ""),
        _depends_on(instance_id, entry.get("depends_on", [])),
    )


def _depends_on(instance_id: str, value: object) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [None]
    ids = [item for item in items if isinstance(item, str) and item]
    if len(ids) < len(items):
        raise InventoryError(f'{instance_id}: depends_on is {value!r}: write a list of instance ids, ["orders-db"]')
    if instance_id in ids:
        raise InventoryError(f"{instance_id}: depends_on names the instance itself: remove it from the list")
    repeated = sorted({item for item in ids if ids.count(item) > 1})
    if repeated:
        raise InventoryError(f"{instance_id}: depends_on names {repeated[0]} twice: remove one of the entries")
    return tuple(ids)
