"""Accounts and regions to read metrics from, and the names they give to instances.

Each account and region has its own credentials, its own quotas and its own part of the bucket. Every role of the
setting `role_arns` is read in every region of `regions`. Without both settings there is one pair: the account and
region of the Airflow connection. Instance ids are unique over all pairs. EC2 ids are globally unique; any other id (the
name of a database or host) is prefixed with the name of its account and region: `123456789012.eu-west-1:orders`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from riskwatch_ml.core.errors import UserInputError

# The entry of `role_arns` for the account of the Airflow connection, and the name of the pair without role and region.
OWN = "own"
DEFAULT = "default"
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::(\d{12}):role/\S+")
_REGION = re.compile(r"[a-z]{2,}(-[a-z]+)+-\d+")
_EC2_ID = re.compile(r"i-([0-9a-f]{8}|[0-9a-f]{17})")


class AccountRegionError(UserInputError):
    """A role or region is not valid; the message names the value and the fix."""


@dataclass(frozen=True)
class AccountRegion:
    """One account in one region.

    None stands for the account or the region of the Airflow connection.
    """

    role_arn: str | None = None
    region: str | None = None

    @property
    def name(self) -> str:
        """The name in S3 keys and instance ids.

        `123456789012.eu-west-1`, only one of the two, or "default".
        """
        account = None if self.role_arn is None else self.role_arn.split(":")[4]
        return ".".join(filter(None, (account, self.region))) or DEFAULT

    def qualify(self, name: str) -> str:
        """Return the fleet-wide id of the instance that is called `name` here."""
        return name if self.name == DEFAULT or _EC2_ID.fullmatch(name) else f"{self.name}:{name}"

    def local(self, instance_id: str) -> str:
        """Return the name of an instance inside its account and region."""
        return instance_id.removeprefix(f"{self.name}:")


def all_account_regions(role_arns: Sequence[str], regions: Sequence[str]) -> tuple[AccountRegion, ...]:
    """Return every role in every region, or one default pair without both.

    Raises AccountRegionError if an entry is not a role ARN or a region, or if an account and region occurs twice.
    """
    for arn in role_arns:
        if arn != OWN and not _ROLE.fullmatch(arn):
            raise AccountRegionError(
                f"role_arns has {arn!r}: use arn:aws:iam::123456789012:role/NAME, or {OWN!r} for the account of the "
                "Airflow connection"
            )
    for region in regions:
        if not _REGION.fullmatch(region):
            raise AccountRegionError(f"regions has {region!r}: use the name of a region, e.g. eu-west-1")
    account_regions = [
        AccountRegion(None if arn in (OWN, None) else arn, region)
        for arn in role_arns or (None,)
        for region in regions or (None,)
    ]
    names = [account_region.name for account_region in account_regions]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise AccountRegionError(f"role_arns and regions name {repeated[0]} twice: remove one of the entries")
    return tuple(account_regions)


def by_name(account_regions: Sequence[AccountRegion], name: str) -> AccountRegion:
    """Return the account and region of that name.

    Raises AccountRegionError if the settings do not have it.
    """
    for account_region in account_regions:
        if account_region.name == name:
            return account_region
    raise AccountRegionError(
        f"there is no account-region {name!r} any more: role_arns and regions give {[s.name for s in account_regions]}"
    )


def is_ec2_id(name: str) -> bool:
    """Return whether a name is the id of an EC2 instance, which is globally unique."""
    return _EC2_ID.fullmatch(name) is not None


def without_account(instance_id: str) -> str:
    """Return an instance id without its account and region."""
    return _split(instance_id)[1]


def _split(instance_id: str) -> tuple[str, str]:
    """Return account and region of an instance id, empty if it names none, and the rest.

    Names of accounts and regions have no slash: a colon behind one belongs to the instance.
    """
    prefix, colon, name = instance_id.partition(":")
    return (prefix, name) if colon and "/" not in prefix else ("", instance_id)


def of_instance(instance_id: str, said: str = "") -> str:
    """Return the name of the account and region of an instance.

    That is `said` if given, else the prefix of the instance id, else "default".
    """
    return said or _split(instance_id)[0] or DEFAULT
