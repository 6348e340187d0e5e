"""Accounts and regions: each pair is a shard, with credentials, quotas and parts of the bucket of its own.

The settings `role_arns` and `regions` are multiplied out. Without either there is one shard, the account and region of
the Airflow connection. Instance ids stay unique over shards: an EC2 id is unique by itself, any other id (a database's,
a host's name) is prefixed with its shard's name, `123456789012.eu-west-1:orders`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from riskwatch_ml.core.errors import UserInputError

# The role that stands for the connection's own account, and the shard without role and region.
OWN = "own"
DEFAULT = "default"
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::(\d{12}):role/\S+")
_REGION = re.compile(r"[a-z]{2,}(-[a-z]+)+-\d+")
_EC2_ID = re.compile(r"i-([0-9a-f]{8}|[0-9a-f]{17})")


class ShardError(UserInputError):
    """Roles or regions cannot be used; the message names the value and the fix."""


@dataclass(frozen=True)
class Shard:
    """One account in one region. None stands for what the Airflow connection gives."""

    role_arn: str | None = None
    region: str | None = None

    @property
    def name(self) -> str:
        """`123456789012.eu-west-1`, only one of both, or "default": in keys of the bucket and in instance ids."""
        account = None if self.role_arn is None else self.role_arn.split(":")[4]
        return ".".join(filter(None, (account, self.region))) or DEFAULT

    def qualify(self, name: str) -> str:
        """Return the instance id under which the fleet knows an instance that this shard calls `name`."""
        return name if self.name == DEFAULT or _EC2_ID.fullmatch(name) else f"{self.name}:{name}"

    def local(self, instance_id: str) -> str:
        """Return what this shard calls an instance of its own."""
        return instance_id.removeprefix(f"{self.name}:")


def all_shards(role_arns: Sequence[str], regions: Sequence[str]) -> tuple[Shard, ...]:
    """Return every role in every region; one shard where neither is given.

    Raises ShardError where an entry is no role ARN or region, or two shards are one account and region.
    """
    for arn in role_arns:
        if arn != OWN and not _ROLE.fullmatch(arn):
            raise ShardError(
                f"role_arns has {arn!r}: use arn:aws:iam::123456789012:role/NAME, or {OWN!r} for the account of the "
                "Airflow connection"
            )
    for region in regions:
        if not _REGION.fullmatch(region):
            raise ShardError(f"regions has {region!r}: use the name of a region, e.g. eu-west-1")
    shards = [
        Shard(None if arn in (OWN, None) else arn, region)
        for arn in role_arns or (None,)
        for region in regions or (None,)
    ]
    names = [shard.name for shard in shards]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ShardError(f"role_arns and regions name {twice[0]} twice: an account and region is read once")
    return tuple(shards)


def named(shards: Sequence[Shard], name: str) -> Shard:
    """Return the shard of that name. Raises ShardError where the settings have none."""
    for shard in shards:
        if shard.name == name:
            return shard
    raise ShardError(f"there is no shard {name!r} any more: role_arns and regions give {[s.name for s in shards]}")


def of_instance(instance_id: str, said: str = "") -> str:
    """Return the name of an instance's shard: what is `said` of it, else its id's prefix, else "default"."""
    head, colon, _ = instance_id.partition(":")
    return said or (head if colon else DEFAULT)
