"""Which instances there are to expect, and which role and service each has.

Said by hand in JSON:

    {"instances": {"web-1": {"role": "web", "service": "shop"}}}

Said by the tags `riskwatch:role` and `riskwatch:service` of the resources, which the hourly export reads. An instance
in either should report; one that only CloudWatch knows has role "default" and is its own service.
`riskwatch_ml.storage.known_instances` keeps both.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from riskwatch_ml.core import accounts
from riskwatch_ml.core.errors import UserInputError
from riskwatch_ml.schema.catalogue import Catalogue

DEFAULT_ROLE = "default"
ROLE_TAG, SERVICE_TAG = "riskwatch:role", "riskwatch:service"
# Resources whose metrics a namespace holds, as the tagging API names them. Others get role and service by hand.
RESOURCE_TYPES = {"AWS/EC2": "ec2:instance", "CWAgent": "ec2:instance", "AWS/RDS": "rds:db"}


class InventoryError(UserInputError):
    """The inventory cannot be used; the message names the instance and the fix."""


@dataclass(frozen=True)
class Instance:
    """One instance: its role names the baseline used while it has none of its own, its service groups its alerts.

    `shard` names the account and region it is read from where its id does not tell, see `riskwatch_ml.core.accounts`.
    """

    instance_id: str
    role: str = DEFAULT_ROLE
    service: str = ""
    shard: str = ""

    def __post_init__(self) -> None:
        if not self.service:
            object.__setattr__(self, "service", self.instance_id)


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
    entries = {
        key: {"role": item.role, "service": item.service, **({"shard": item.shard} if item.shard else {})}
        for key, item in sorted(inventory.items())
    }
    return json.dumps({"instances": entries}, indent=1) + "\n"


def lookup(inventory: Mapping[str, Instance], instance_id: str) -> Instance:
    """Return the instance, with role "default" and itself as service where the inventory does not have it."""
    return inventory.get(instance_id) or Instance(instance_id)


def of_shard(inventory: Mapping[str, Instance], name: str) -> list[str]:
    """Return the ids of the instances that are read from a shard, sorted."""
    return sorted(key for key, item in inventory.items() if accounts.of_instance(key, item.shard) == name)


def resource_types(catalogue: Catalogue) -> list[str]:
    """Return the types of the resources that the catalogue's metrics are about, as the tagging API names them."""
    return sorted({RESOURCE_TYPES[item.namespace] for item in catalogue.metrics if item.namespace in RESOURCE_TYPES})


def of_tags(resources: Iterable[Mapping[str, Any]], shard: str, qualify: Callable[[str], str]) -> dict[str, Instance]:
    """Return the instances among tagged resources, by instance id.

    Parameters
    ----------
    resources
        Entries of GetResources: ResourceARN and Tags.
    shard
        Name of the shard that they were found in.
    qualify
        Makes the instance id of what the ARN ends in.
    """
    found = {}
    for resource in resources:
        instance_id = qualify(re.split("[:/]", resource["ResourceARN"])[-1])
        tags = {tag["Key"]: tag["Value"].strip() for tag in resource["Tags"]}
        role, service = tags.get(ROLE_TAG) or DEFAULT_ROLE, tags.get(SERVICE_TAG, "")
        found[instance_id] = Instance(instance_id, role, service, shard)
    return found


def _instance(instance_id: str, entry: object) -> Instance:
    if not isinstance(entry, dict) or not set(entry) <= {"role", "service", "shard"}:
        raise InventoryError(f'{instance_id}: the entry is {entry!r}: use {{"role": "web", "service": "shop"}}')
    for key, value in entry.items():
        if not isinstance(value, str) or not value:
            raise InventoryError(
                f"{instance_id}: {key} is {value!r}: use a name that is not empty, or leave the key out"
            )
    return replace(Instance(instance_id), **{"service": instance_id, **entry})
