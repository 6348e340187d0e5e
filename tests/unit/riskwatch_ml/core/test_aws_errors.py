"""Groups of AWS error codes."""

from itertools import combinations

from botocore.exceptions import ClientError

from riskwatch_ml.core import aws_errors


def test_a_code_has_one_meaning():
    # GIVEN the groups that callers handle differently
    groups = [
        *(aws_errors.ACCESS_DENIED, aws_errors.EXPIRED_CREDENTIALS, aws_errors.INVALID_SIGNATURE, aws_errors.THROTTLED),
        *(aws_errors.NO_OBJECT, aws_errors.CONDITION_FAILED, aws_errors.CONFLICT),
    ]

    # WHEN / THEN
    assert all(not one & other for one, other in combinations(groups, 2))
    assert not aws_errors.REFUSED & aws_errors.THROTTLED


def test_code_and_message_of_an_error_may_be_missing():
    # GIVEN an error of AWS, and an answer without a body
    full = ClientError({"Error": {"Code": "AccessDenied", "Message": "not you"}}, "GetObject")
    empty = ClientError({}, "HeadObject")

    # WHEN / THEN
    assert (aws_errors.code(full), aws_errors.message(full)) == ("AccessDenied", "not you")
    assert (aws_errors.code(empty), aws_errors.message(empty)) == ("", "")
