"""A published version of a Lambda function: its description and its code."""

from __future__ import annotations

import base64
import hashlib
import io
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from riskwatch_ml.core.errors import OperationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DOWNLOAD_S = 30.0

# The embedded AWS serves the code on loopback: requests ignore the proxy that the environment names.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class FunctionError(OperationError):
    """A function cannot be read, or its code is not what Lambda describes."""


@dataclass(frozen=True)
class Function:
    """One version of a function: names, limits, variables and code.

    `code` is the zip.
    """

    name: str
    arn: str
    version: str
    handler: str
    timeout_s: float
    memory_mb: int
    variables: Mapping[str, str]
    code: bytes


def fetch(client: Any, name: str, qualifier: str) -> Function:
    """Return the version behind `qualifier`, an alias or a number, with its code.

    `client` is a boto3 Lambda client. Raises FunctionError if there is no such version, or if the code does not have
    Lambda's CodeSha256.
    """
    try:
        answer = client.get_function(FunctionName=name, Qualifier=qualifier)
    except (ClientError, BotoCoreError) as error:
        raise FunctionError(f"function {name}:{qualifier} cannot be read: {error}") from error
    configuration = answer["Configuration"]
    try:
        with _opener.open(answer["Code"]["Location"], timeout=DOWNLOAD_S) as response:
            code: bytes = response.read()
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise FunctionError(f"the code of {name}:{qualifier} cannot be downloaded: {error}") from error
    digest = base64.b64encode(hashlib.sha256(code).digest()).decode()
    expected = configuration["CodeSha256"]
    if digest != expected:
        raise FunctionError(f"the code of {name}:{qualifier} has the digest {digest}, Lambda expects {expected}")
    return Function(
        name=configuration["FunctionName"],
        arn=configuration["FunctionArn"],
        version=configuration["Version"],
        handler=configuration["Handler"],
        timeout_s=float(configuration["Timeout"]),
        memory_mb=int(configuration["MemorySize"]),
        variables=dict(configuration.get("Environment", {}).get("Variables", {})),
        code=code,
    )


def unpack(code: bytes, folder: Path) -> None:
    """Write the files of a zip into a new folder.

    Raises FunctionError if the bytes are not an intact zip.
    """
    folder.mkdir(parents=True)
    try:
        with zipfile.ZipFile(io.BytesIO(code)) as archive:
            archive.extractall(folder)
    except (zipfile.BadZipFile, EOFError) as error:
        raise FunctionError(f"the code of the function is not an intact zip: {error}") from error
