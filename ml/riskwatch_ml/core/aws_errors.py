"""Error codes of AWS in groups: access denied, throttled, no object and others.

A service may use any spelling of a group; S3 answers a HEAD request with the HTTP status only. This module does not
load boto3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

ACCESS_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})
"""The credentials are valid, but the role may not do this."""

EXPIRED_CREDENTIALS = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "InvalidClientTokenId", "UnrecognizedClientException"}
)
"""The credentials are not valid any more."""

INVALID_SIGNATURE = frozenset({"InvalidAccessKeyId", "InvalidSignatureException", "SignatureDoesNotMatch"})
"""The key does not exist, or the secret does not belong to it."""

REFUSED = ACCESS_DENIED | EXPIRED_CREDENTIALS | INVALID_SIGNATURE | {"403"}
"""Credentials or permissions have to change; trying again does not help."""

THROTTLED = frozenset(
    {"Throttling", "ThrottlingException", "ThrottledException", "RequestLimitExceeded", "TooManyRequestsException"}
)
"""Too many requests; a later try may succeed."""

NO_OBJECT = frozenset({"NoSuchKey", "404"})
"""S3 has no object of this key."""

CONDITION_FAILED = frozenset({"PreconditionFailed", "412"})
"""A conditional write of S3 was not done: its condition does not hold."""

CONFLICT = frozenset({"ConditionalRequestConflict", "409"})
"""Two conditional writes of S3 met; S3 asks the one that lost to try again."""


def code(error: ClientError) -> str:
    """Return the code of an error, empty if AWS gave none."""
    return str(error.response.get("Error", {}).get("Code", ""))


def message(error: ClientError) -> str:
    """Return the message of an error, empty if AWS gave none."""
    return str(error.response.get("Error", {}).get("Message", ""))
