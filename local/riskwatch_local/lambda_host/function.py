"""A published version of a Lambda function as its environment needs it: the description, and the code in a folder."""

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

# Code of the embedded AWS is on loopback, whatever proxy the environment names.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class FunctionError(OperationError):
    """A function cannot be fetched, or its code is not what Lambda says it is."""


@dataclass(frozen=True)
class Function:
    """One version of a function: names, limits, environment variables and the zip that holds its code."""

    name: str
    arn: str
    version: str
    handler: str
    timeout_s: float
    memory_mb: int
    variables: Mapping[str, str]
    code: bytes


def fetch(client: Any, name: str, qualifier: str) -> Function:
    """Read the version that `qualifier` (alias or number) stands for, and download its code.

    `client` is a boto3 Lambda client. Raises FunctionError when there is none, or when the code is another than
    Lambda's CodeSha256 promises.
    """
    try:
        answer = client.get_function(FunctionName=name, Qualifier=qualifier)
    except (ClientError, BotoCoreError) as error:
        raise FunctionError(f"function {name}:{qualifier} cannot be read: {error}") from error
    found = answer["Configuration"]
    try:
        with _opener.open(answer["Code"]["Location"], timeout=DOWNLOAD_S) as response:
            code: bytes = response.read()
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise FunctionError(f"the code of {name}:{qualifier} cannot be downloaded: {error}") from error
    digest = base64.b64encode(hashlib.sha256(code).digest()).decode()
    if digest != found["CodeSha256"]:
        raise FunctionError(
            f"the code of {name}:{qualifier} has the digest {digest}, Lambda says {found['CodeSha256']}"
        )
    return Function(
        name=found["FunctionName"],
        arn=found["FunctionArn"],
        version=found["Version"],
        handler=found["Handler"],
        timeout_s=float(found["Timeout"]),
        memory_mb=int(found["MemorySize"]),
        variables=dict(found.get("Environment", {}).get("Variables", {})),
        code=code,
    )


def unpack(code: bytes, folder: Path) -> None:
    """Write the files of a zip into an empty folder. Raises FunctionError when the bytes are not an intact zip."""
    folder.mkdir(parents=True)
    try:
        with zipfile.ZipFile(io.BytesIO(code)) as archive:
            archive.extractall(folder)
    except (zipfile.BadZipFile, EOFError) as error:
        raise FunctionError(f"the code of the function is not an intact zip: {error}") from error
