"""Accounts and regions: names, ids that stay unique, and what is refused."""

import pytest

from riskwatch_ml.core import accounts
from riskwatch_ml.core.accounts import AccountRegion, AccountRegionError

ROLE = "arn:aws:iam::123456789012:role/riskwatch-reader"
OTHER = "arn:aws:iam::210987654321:role/riskwatch-reader"


def test_without_roles_and_regions_there_is_one_shard():
    # GIVEN / WHEN
    found = accounts.all_account_regions((), ())

    # THEN ids are as CloudWatch has them
    assert found == (AccountRegion(),)
    assert found[0].name == "default"
    assert found[0].qualify("db:1") == "db:1"


def test_roles_times_regions():
    # GIVEN / WHEN the own account and another one, in two regions
    found = accounts.all_account_regions(("own", ROLE), ("eu-west-1", "us-gov-west-1"))

    # THEN
    assert [account_region.name for account_region in found] == [
        "eu-west-1",
        "us-gov-west-1",
        "123456789012.eu-west-1",
        "123456789012.us-gov-west-1",
    ]
    assert found[2].role_arn == ROLE
    assert found[0].role_arn is None


def test_one_name_in_two_shards_is_two_instances():
    # GIVEN two accounts with a database of the same name
    one, two = accounts.all_account_regions((ROLE, OTHER), ("eu-west-1",))

    # WHEN / THEN each knows its own under its own name, and EC2 ids stay as they are
    assert one.qualify("orders") == "123456789012.eu-west-1:orders"
    assert two.qualify("orders") == "210987654321.eu-west-1:orders"
    assert one.local(one.qualify("orders")) == "orders"
    assert one.qualify("i-0123456789abcdef0") == "i-0123456789abcdef0" == one.local("i-0123456789abcdef0")
    assert accounts.of_instance(one.qualify("orders")) == one.name


@pytest.mark.parametrize(
    ("roles", "regions", "words"),
    [
        (("riskwatch-reader",), (), "role_arns has 'riskwatch-reader': use arn:aws:iam::"),
        ((), ("Ireland",), "regions has 'Ireland': use the name of a region"),
        ((ROLE, ROLE.replace("reader", "second")), ("eu-west-1",), r"name 123456789012.eu-west-1 twice"),
        ((), ("eu-west-1", "eu-west-1"), "name eu-west-1 twice"),
    ],
)
def test_what_is_refused(roles, regions, words):
    # GIVEN / WHEN / THEN
    with pytest.raises(AccountRegionError, match=words):
        accounts.all_account_regions(roles, regions)


def test_a_shard_that_the_settings_have_lost_is_named():
    # GIVEN / WHEN / THEN
    assert accounts.by_name((AccountRegion(),), "default") == AccountRegion()
    with pytest.raises(AccountRegionError, match=r"no account-region 'eu-west-1' any more"):
        accounts.by_name((AccountRegion(),), "eu-west-1")
