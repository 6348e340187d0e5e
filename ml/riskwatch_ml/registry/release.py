"""The release of an artifact: publish a Lambda version, test it, move the alias.

The steps before the move of the alias do not affect the version in service. The code is uploaded to the unpublished
``$LATEST``, published as a numbered version, and invoked under that number for a self-test; the artifact contains the
expected labels. Only a version that reproduces them gets the alias, and only if its revision id shows that it has not
moved meanwhile. Every step can be repeated: a retry after a crash finds the results of the first try.

If a step *after* the move fails for good, for example because the registry cannot be updated, the caller calls
`restore`, so that the version in service and the records agree again. ``only_from``, the version that the caller
had released, protects a promotion that another user made in between. If a call finds its artifact in service already
(``moved`` is False) there is nothing to undo: a failed record does not remove a champion.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict, cast

from botocore.exceptions import ClientError, WaiterError

from riskwatch_ml.artifact import archive as artifact
from riskwatch_ml.core import aws_errors
from riskwatch_ml.core.errors import OperationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


MAX_ZIP_BYTES = 50_000_000
"""UpdateFunctionCode accepts a zip of at most 50 MB in a request; artifacts are far smaller."""

HANDLER = "riskwatch_lambda.handler.handle"
"""Entry point of an artifact. The first promotion sets it; the placeholder of the stack has another one."""

PLACEHOLDER_HANDLER = "index.handle"
"""Entry point of inline code, which is the placeholder of the stack."""

# Every move of the alias by this module leaves this in its description.
_BEFORE = re.compile(r"^from (\d+|\$LATEST);")


class ReleaseError(OperationError):
    """A release failed; the alias has not moved unless the message says otherwise."""


class MissingVersionError(ReleaseError):
    """The function, its alias or the version does not exist, or the version runs other code."""


class ReleaseConflictError(ReleaseError):
    """Another user changed the function or the alias at the same time."""


class GoldenOutcome(TypedDict):
    """The golden rows of a self-test, and those whose label differs from training."""

    rows: int
    differences: int


class SelfTest(TypedDict):
    """The answer of a Lambda version to a self-test; `model_id` is the id of the first part."""

    model_id: str
    golden: GoldenOutcome


@dataclass(frozen=True)
class Release:
    """A Lambda version that has the alias.

    Attributes
    ----------
    function_version
        Number of the Lambda version, as text.
    checksum
        SHA-256 of the zip in hexadecimal; ``code_sha256`` is the same in base64, as Lambda writes it.
    previous_version
        The version that had the alias before.
    selftest
        The answer of the version to ``{"selftest": {}}``.
    moved
        True if this call moved the alias to the version, False if the version had it before.
    """

    function_version: str
    checksum: str
    code_sha256: str
    previous_version: str
    selftest: SelfTest
    moved: bool


def promote(
    lambda_client: Any, function: str, alias: str, zip_bytes: bytes, *, approved_by: str, only_from: str | None = None
) -> Release:
    """Publish the artifact as a new version, test it, and move the alias to it.

    If the alias serves these bytes already, its version is tested again and returned. ``lambda_client`` is a boto3
    client, ``alias`` the alias that the event source invokes, ``zip_bytes`` the artifact of at most 50 MB.
    ``approved_by`` is written into the descriptions of version and alias. With ``only_from``, the alias must
    point to that version, else nothing changes.

    Raises
    ------
    ReleaseError
        The function or the alias is missing, the uploaded code is not the artifact, or the self-test failed.
        The alias has not moved.
    ReleaseConflictError
        Another user deployed at the same time. The alias points to that user's version.
    """
    model_id, *further = _model_ids(zip_bytes)
    checksum, code_sha256 = artifact.checksum(zip_bytes), artifact.code_sha256(zip_bytes)

    with translate_lambda_errors(function, alias):
        held = lambda_client.get_alias(FunctionName=function, Name=alias)
        current = str(held["FunctionVersion"])
        if only_from is not None and current != only_from:
            raise _moved_meanwhile(function, alias, current, only_from)
        serving = lambda_client.get_function_configuration(FunctionName=function, Qualifier=current)
        if current != "$LATEST" and serving["CodeSha256"] == code_sha256:
            selftest = _selftest(lambda_client, function, current, [model_id, *further])
            return Release(current, checksum, code_sha256, _before(held), selftest, moved=False)

        _upload(lambda_client, function, zip_bytes, code_sha256)
        version = _publish(lambda_client, function, code_sha256, f"{model_id}; approved by {approved_by}")
        selftest = _selftest(lambda_client, function, version, [model_id, *further])
        # The revision id was read first: if another user has moved the alias since then, Lambda refuses this call.
        lambda_client.update_alias(
            FunctionName=function,
            Name=alias,
            FunctionVersion=version,
            RevisionId=held["RevisionId"],
            RoutingConfig={"AdditionalVersionWeights": {}},
            Description=f"from {current}; {model_id}; approved by {approved_by}"[:256],
        )
        _expect_alias(lambda_client, function, alias, version)
    return Release(version, checksum, code_sha256, current, selftest, moved=True)


def restore(lambda_client: Any, function: str, alias: str, version: str, *, only_from: str | None = None) -> str:
    """Move the alias back to a version and return the version that had it before.

    An alias that points to the version already does not change. With ``only_from``, the alias moves only if it points
    to that version; a caller can so undo its own promotion safely.

    Raises
    ------
    ReleaseError
        The version, the function or the alias does not exist.
    ReleaseConflictError
        The alias points to another version than ``only_from``, or moved in the same moment.
    """
    with translate_lambda_errors(function, alias):
        held = lambda_client.get_alias(FunctionName=function, Name=alias)
        current = str(held["FunctionVersion"])
        if current == version:
            return current
        if only_from is not None and current != only_from:
            raise _moved_meanwhile(function, alias, current, only_from)
        # Some implementations of Lambda accept an alias to a version that does not exist: check it first.
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


def is_released(description: str) -> bool:
    """Return whether `promote` or `restore` made the last move of an alias.

    ``description`` is that of the alias. An update of the stack writes the description of the template instead.
    """
    return _BEFORE.match(description) is not None


def selftest(lambda_client: Any, function: str, version: str, zip_bytes: bytes) -> SelfTest:
    """Return the answer of a published version to a self-test.

    ``zip_bytes`` is the artifact that the version should run.

    Raises MissingVersionError if the version does not exist or runs another one, ReleaseError if the self-test failed.
    """
    with translate_lambda_errors(function, version):
        running = lambda_client.get_function_configuration(FunctionName=function, Qualifier=version)
        if running["CodeSha256"] != artifact.code_sha256(zip_bytes):
            raise MissingVersionError(
                f"version {version} of {function!r} runs another artifact than {artifact.checksum(zip_bytes)[:12]}: "
                "the function was created again. Promote the artifact again."
            )
        return _selftest(lambda_client, function, version, _model_ids(zip_bytes))


def _moved_meanwhile(function: str, alias: str, current: str, expected: str) -> ReleaseConflictError:
    return ReleaseConflictError(
        f"alias {alias!r} of {function!r} points to version {current}, not to {expected}: another user moved it since. "
        "It was not moved again; read the ledger before you start again."
    )


def _model_ids(zip_bytes: bytes) -> list[str]:
    """Return the model ids of the parts of an artifact, that of the first part first."""
    if len(zip_bytes) > MAX_ZIP_BYTES:
        raise ReleaseError(
            f"the artifact has {len(zip_bytes)} bytes; Lambda takes at most {MAX_ZIP_BYTES} in a request"
        )
    try:
        with zipfile.ZipFile(io.BytesIO(zip_bytes)) as archive:
            return _ids(json.loads(archive.read("model/model.json")))
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:
        raise ReleaseError(
            f"this is not an artifact (no readable model/model.json with a model_id): {error}"
        ) from error


def _ids(whole: Mapping[str, Any]) -> list[str]:
    """Return the model ids in a document or in the answer to a self-test: the first part, then the kinds in order."""
    first, further = whole["model_id"], whole.get("kinds", {})
    return [str(first), *(str(further[kind]["model_id"]) for kind in sorted(further))]


def _before(held: Mapping[str, Any]) -> str:
    """Return the version before this one.

    The promotion wrote it into the description of the alias, so that a retry after a crash has it.
    """
    match = _BEFORE.match(held.get("Description") or "")
    return match.group(1) if match else str(held["FunctionVersion"])


def _upload(client: Any, function: str, zip_bytes: bytes, code_sha256: str) -> None:
    """Upload the artifact as the unpublished code of the function.

    If the artifact lacks the handler of the function, the function gets the handler of artifacts.
    """
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
    """Wait until no update is in progress and return the configuration.

    The revision id changes during an update.
    """
    client.get_waiter("function_updated_v2").wait(FunctionName=function)
    return dict(client.get_function_configuration(FunctionName=function))


def _has_handler(zip_bytes: bytes, handler: str) -> bool:
    module = handler.rpartition(".")[0].replace(".", "/")
    with zipfile.ZipFile(io.BytesIO(zip_bytes)) as archive:
        return f"{module}.py" in archive.namelist()


def _publish(client: Any, function: str, code_sha256: str, description: str) -> str:
    # With CodeSha256, Lambda refuses if $LATEST is no longer the artifact. Lambda publishes unchanged code only once.
    published = client.publish_version(FunctionName=function, CodeSha256=code_sha256, Description=description[:256])
    version = str(published["Version"])
    client.get_waiter("published_version_active").wait(FunctionName=function, Qualifier=version)
    if published["CodeSha256"] != code_sha256:
        raise ReleaseConflictError(
            f"version {version} of {function!r} has CodeSha256 {published['CodeSha256']}, the artifact has "
            f"{code_sha256}: another user deployed meanwhile. The alias was not moved; start the promotion again."
        )
    return version


def _selftest(client: Any, function: str, version: str, expected: list[str]) -> SelfTest:
    response = client.invoke(FunctionName=function, Qualifier=version, Payload=b'{"selftest":{}}')
    text = response["Payload"].read().decode("utf-8", "replace")
    problem = _problem(response.get("FunctionError"), text, expected)
    if problem:
        raise ReleaseError(
            f"version {version} of {function!r} failed its self-test: {problem}. "
            "The alias was not moved; train again, or read the function's log."
        )
    return cast("SelfTest", json.loads(text))


def _problem(function_error: str | None, text: str, expected: list[str]) -> str | None:
    """Return what is wrong with the answer to a self-test of the parts with the expected ids, or None."""
    if function_error:
        return f"it raised ({function_error}): {text[:500]}"
    try:
        answer = json.loads(text)
        running, rows, differences = _ids(answer), answer["golden"]["rows"], answer["golden"]["differences"]
    except (ValueError, KeyError, TypeError):
        return f"it answered {text[:200]!r}"
    if running != expected:
        return f"it runs model {', '.join(running)}, not {', '.join(expected)}"
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
            "another user moved it right after. Read the ledger before you promote again."
        )


@contextmanager
def translate_lambda_errors(function: str, alias: str) -> Iterator[None]:
    """Turn errors of Lambda that an operator can fix into errors that say how."""
    try:
        yield
    except WaiterError as error:
        raise ReleaseError(f"function {function!r} did not become ready: {error}. The alias was not moved.") from error
    except ClientError as error:
        code = aws_errors.code(error)
        # PublishVersion reports so that $LATEST is no longer the uploaded code.
        stale = error.operation_name == "PublishVersion" and code == "InvalidParameterValueException"
        if stale or code in ("PreconditionFailedException", "ResourceConflictException"):
            raise ReleaseConflictError(
                f"another user changed {function!r} or its alias {alias!r} during this release; these changes were not "
                f"overwritten. Read the ledger, then start again. ({error})"
            ) from error
        if code == "ResourceNotFoundException":
            raise MissingVersionError(
                f"function {function!r}, its alias {alias!r} or the version asked for does not exist ({error}). "
                "The stack creates function and alias: deploy it, or correct the settings 'function' and 'alias'."
            ) from error
        raise
