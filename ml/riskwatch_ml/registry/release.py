"""Putting an approved artifact into service: publish a Lambda version, let it test itself, move the alias, record it.

Nothing before the move of the alias touches what serves: code is uploaded to the unpublished ``$LATEST``, published as
a numbered version, and invoked under that number with a self-test whose expected labels travel inside the artifact.
Only a version that reproduces them is given the alias, and only if nobody moved the alias meanwhile (revision id).
Every step can be repeated: a retry after a crash finds what is already there.

When a step *after* the move fails for good (the registry cannot be told, say), the caller is expected to call
:func:`restore` with ``only_from`` = the version it had put live, so that what serves and what the records say agree
again; the condition keeps it from undoing a promotion that somebody else made in between. A call that found its
artifact in service (``moved`` is False) has nothing to undo: a champion does not go because a record of it failed.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError, WaiterError

from riskwatch_ml.artifact import archive as artifact
from riskwatch_ml.core.errors import OperationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


MAX_ZIP_BYTES = 50_000_000
"""UpdateFunctionCode takes a zip of at most 50 MB in the request itself; artifacts are far smaller."""

HANDLER = "riskwatch_lambda.handler.handle"
"""Entry point of an artifact. The stack's placeholder has another one, which the first promotion replaces."""

_BEFORE = re.compile(r"^from (\d+|\$LATEST);")


class ReleaseError(OperationError):
    """A release cannot go on; the alias still points to where it pointed, unless the text says otherwise."""


class ReleaseConflictError(ReleaseError):
    """Somebody else changed the function or the alias at the same time."""


@dataclass(frozen=True)
class Release:
    """A version that holds the alias.

    Attributes
    ----------
    function_version
        Number of the Lambda version, as text.
    digest
        SHA-256 of the zip, hexadecimal; ``code_sha256`` is the same digest as Lambda writes it (base64).
    previous_version
        The version that held the alias before this artifact did.
    selftest
        The answer of the version to ``{"selftest": {}}``.
    moved
        Whether this call gave the alias to the version; False where the version held it already.
    """

    function_version: str
    digest: str
    code_sha256: str
    previous_version: str
    selftest: dict[str, Any]
    moved: bool


def promote(lambda_client: Any, function: str, alias: str, zip_bytes: bytes, *, approved_by: str) -> Release:
    """Publish the artifact as a new version of the function, self-test it, and move the alias to it.

    Idempotent: where the alias already serves exactly these bytes, the version is self-tested again and returned.

    Parameters
    ----------
    lambda_client
        A boto3 ``lambda`` client.
    function, alias
        Names of the function and of the alias that the event source invokes.
    zip_bytes
        The artifact, at most 50 MB.
    approved_by
        Who approved it; written into the descriptions of version and alias.

    Raises
    ------
    ReleaseError
        The function or the alias is missing, the uploaded code is not the artifact, or the self-test failed.
        The alias has not moved.
    ReleaseConflictError
        Somebody else deployed at the same time. The alias is where the other one put it.
    """
    model_id = _model_id(zip_bytes)
    digest, code_sha256 = artifact.digest(zip_bytes), artifact.code_sha256(zip_bytes)

    with _explained(function, alias):
        held = lambda_client.get_alias(FunctionName=function, Name=alias)
        current = str(held["FunctionVersion"])
        serving = lambda_client.get_function_configuration(FunctionName=function, Qualifier=current)
        if current != "$LATEST" and serving["CodeSha256"] == code_sha256:
            selftest = _selftest(lambda_client, function, current, model_id)
            return Release(current, digest, code_sha256, _before(held), selftest, moved=False)

        _upload(lambda_client, function, zip_bytes, code_sha256)
        version = _publish(lambda_client, function, code_sha256, f"{model_id}; approved by {approved_by}")
        selftest = _selftest(lambda_client, function, version, model_id)
        # The revision read at the very start: whoever moved the alias since then wins, and this call is refused.
        lambda_client.update_alias(
            FunctionName=function,
            Name=alias,
            FunctionVersion=version,
            RevisionId=held["RevisionId"],
            RoutingConfig={"AdditionalVersionWeights": {}},
            Description=f"from {current}; {model_id}; approved by {approved_by}"[:256],
        )
        _expect_alias(lambda_client, function, alias, version)
    return Release(version, digest, code_sha256, current, selftest, moved=True)


def restore(lambda_client: Any, function: str, alias: str, version: str, *, only_from: str | None = None) -> str:
    """Move the alias back to a published version; returns the version that it held before.

    Already there: nothing is changed. With ``only_from`` the alias moves only if it points to that version, which makes
    the call safe as the undo of one's own promotion.

    Raises
    ------
    ReleaseError
        The version, the function or the alias does not exist.
    ReleaseConflictError
        The alias points to something else than ``only_from``, or was moved in the same moment.
    """
    with _explained(function, alias):
        held = lambda_client.get_alias(FunctionName=function, Name=alias)
        current = str(held["FunctionVersion"])
        if current == version:
            return current
        if only_from is not None and current != only_from:
            raise ReleaseConflictError(
                f"alias {alias!r} of {function!r} points to version {current}, not to {only_from}: "
                f"somebody promoted since. It was left alone; look at the ledger before moving it to {version}."
            )
        # An alias can be pointed at a version that does not exist on some implementations; ask first.
        lambda_client.get_function_configuration(FunctionName=function, Qualifier=version)
        lambda_client.update_alias(
            FunctionName=function,
            Name=alias,
            FunctionVersion=version,
            RevisionId=held["RevisionId"],
            RoutingConfig={"AdditionalVersionWeights": {}},
            Description=f"from {current}; restored",
        )
        _expect_alias(lambda_client, function, alias, version)
    return current


def _model_id(zip_bytes: bytes) -> str:
    if len(zip_bytes) > MAX_ZIP_BYTES:
        raise ReleaseError(
            f"the artifact has {len(zip_bytes)} bytes; Lambda takes at most {MAX_ZIP_BYTES} in a request"
        )
    try:
        with zipfile.ZipFile(io.BytesIO(zip_bytes)) as archive:
            return str(json.loads(archive.read("model/model.json"))["model_id"])
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:
        raise ReleaseError(
            f"this is not an artifact (no readable model/model.json with a model_id): {error}"
        ) from error


def _before(held: Mapping[str, Any]) -> str:
    """The version before this one, which the promotion wrote into the alias: a retry after a crash still knows it."""
    found = _BEFORE.match(held.get("Description") or "")
    return found.group(1) if found else str(held["FunctionVersion"])


def _upload(client: Any, function: str, zip_bytes: bytes, code_sha256: str) -> None:
    """Make the artifact the unpublished code of the function, with a handler that the artifact has."""
    latest = _settled(client, function)
    if latest["CodeSha256"] != code_sha256:
        answer = client.update_function_code(FunctionName=function, ZipFile=zip_bytes, RevisionId=latest["RevisionId"])
        if answer["CodeSha256"] != code_sha256:
            raise ReleaseError(
                f"Lambda reports CodeSha256 {answer['CodeSha256']} for {function!r}, the artifact has {code_sha256}: "
                "the upload was altered on its way. The alias was not moved."
            )
        latest = _settled(client, function)
    if not _has_handler(zip_bytes, latest["Handler"]):
        client.update_function_configuration(FunctionName=function, Handler=HANDLER, RevisionId=latest["RevisionId"])
        _settled(client, function)


def _settled(client: Any, function: str) -> dict[str, Any]:
    """The configuration once no update is under way; its revision id changes by itself until then."""
    client.get_waiter("function_updated_v2").wait(FunctionName=function)
    return dict(client.get_function_configuration(FunctionName=function))


def _has_handler(zip_bytes: bytes, handler: str) -> bool:
    module = handler.rpartition(".")[0].replace(".", "/")
    with zipfile.ZipFile(io.BytesIO(zip_bytes)) as archive:
        return f"{module}.py" in archive.namelist()


def _publish(client: Any, function: str, code_sha256: str, description: str) -> str:
    # CodeSha256 makes Lambda refuse if $LATEST is not the artifact any more. Unchanged code publishes no second
    # version.
    published = client.publish_version(FunctionName=function, CodeSha256=code_sha256, Description=description[:256])
    version = str(published["Version"])
    client.get_waiter("published_version_active").wait(FunctionName=function, Qualifier=version)
    if published["CodeSha256"] != code_sha256:
        raise ReleaseConflictError(
            f"version {version} of {function!r} has CodeSha256 {published['CodeSha256']}, the artifact has "
            f"{code_sha256}: somebody else deployed meanwhile. The alias was not moved; start the promotion again."
        )
    return version


def _selftest(client: Any, function: str, version: str, model_id: str) -> dict[str, Any]:
    response = client.invoke(FunctionName=function, Qualifier=version, Payload=b'{"selftest":{}}')
    text = response["Payload"].read().decode("utf-8", "replace")
    problem = _problem(response.get("FunctionError"), text, model_id)
    if problem:
        raise ReleaseError(
            f"version {version} of {function!r} failed its self-test: {problem}. "
            "The alias was not moved; train again, or look at the function's log."
        )
    return dict(json.loads(text))


def _problem(function_error: str | None, text: str, model_id: str) -> str | None:
    """What is wrong with the answer to a self-test, or None."""
    if function_error:
        return f"it raised ({function_error}): {text[:500]}"
    try:
        answer = json.loads(text)
        found, rows, differences = answer["model_id"], answer["golden"]["rows"], answer["golden"]["differences"]
    except (ValueError, KeyError, TypeError):
        return f"it answered {text[:200]!r}"
    if found != model_id:
        return f"it runs model {found!r}, not {model_id!r}"
    if not isinstance(rows, int) or rows < 1:
        return f"it scored {rows!r} golden rows"
    if differences != 0:
        return f"{differences} of {rows} golden rows got another label than in training"
    return None


def _expect_alias(client: Any, function: str, alias: str, version: str) -> None:
    now = client.get_alias(FunctionName=function, Name=alias)
    if now["FunctionVersion"] != version:
        raise ReleaseConflictError(
            f"alias {alias!r} of {function!r} was moved to {version} and now points to {now['FunctionVersion']}: "
            "somebody else moved it right after. Look at the ledger before promoting again."
        )


@contextmanager
def _explained(function: str, alias: str) -> Iterator[None]:
    """Turn the answers of Lambda that an operator can act on into errors that say how."""
    try:
        yield
    except WaiterError as error:
        raise ReleaseError(f"function {function!r} did not become ready: {error}. The alias was not moved.") from error
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        # The last is how PublishVersion says that $LATEST is no longer the code that was uploaded.
        stale = error.operation_name == "PublishVersion" and code == "InvalidParameterValueException"
        if stale or code in ("PreconditionFailedException", "ResourceConflictException"):
            raise ReleaseConflictError(
                f"somebody else changed {function!r} or its alias {alias!r} during this release; nothing of theirs was "
                f"overwritten. Look at the ledger, then start again. ({error})"
            ) from error
        if code == "ResourceNotFoundException":
            raise ReleaseError(
                f"function {function!r}, its alias {alias!r} or the version asked for does not exist ({error}). "
                "The stack creates function and alias: deploy it, or correct the settings 'function' and 'alias'."
            ) from error
        raise
