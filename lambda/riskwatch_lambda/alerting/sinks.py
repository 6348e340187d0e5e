"""Where verdicts go: objects of labelled and quarantined records in S3, and alert messages to SNS."""

from __future__ import annotations

import gzip
import json
from io import BytesIO
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from riskwatch_lambda import keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from riskwatch_lambda.alerting.messages import Message

ALREADY_THERE = "PreconditionFailed"
# Half the time of level 9, for objects a tenth larger.
GZIP_LEVEL = 6
_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


class SinkError(RuntimeError):
    """An object could not be stored, or a message not be sent; trying again later may help."""


class Objects:
    """One gzip JSON-lines object a batch and kind, under a key that the batch alone decides.

    The first version of an object stays: a batch that is delivered again finds its verdicts in place.
    """

    def __init__(self, client: Any, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def put_labelled(self, arrived_ms: int, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Store labelled rows by arrival time; raises SinkError."""
        self._put(keys.arrived(keys.LABELLED, arrived_ms, name), rows)

    def put_quarantined(self, arrived_ms: int, name: str, records: Iterable[Mapping[str, Any]]) -> None:
        """Store refused records by arrival time; raises SinkError."""
        self._put(keys.arrived(keys.REFUSED, arrived_ms, name), records)

    def _put(self, key: str, documents: Iterable[Mapping[str, Any]]) -> None:
        body = _compressed(documents)
        if body is None:
            return
        try:
            self._client.put_object(
                Bucket=self._bucket, Key=key, Body=body, ContentType="application/gzip", IfNoneMatch="*"
            )
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") != ALREADY_THERE:
                raise SinkError(f"cannot store s3://{self._bucket}/{key}: {error}") from error
        except BotoCoreError as error:
            raise SinkError(f"cannot store s3://{self._bucket}/{key}: {error}") from error


def _compressed(documents: Iterable[Mapping[str, Any]]) -> bytes | None:
    """Give gzip JSON lines, made line by line: a batch of packs is ten times as large in plain text. None without any.

    The same documents give the same bytes.
    """
    buffer = BytesIO()
    count = 0
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=GZIP_LEVEL, mtime=0) as file:
        for document in documents:
            count += 1
            file.write(_ENCODER.encode(document).encode() + b"\n")
    return buffer.getvalue() if count else None


class Publisher:
    """Sends alert messages to one SNS topic."""

    def __init__(self, client: Any, topic_arn: str) -> None:
        self._client = client
        self._topic_arn = topic_arn

    def send(self, message: Message) -> str:
        """Publish a message and return the id that the topic gave it; raises SinkError."""
        try:
            answer = self._client.publish(
                TopicArn=self._topic_arn,
                Subject=message.subject,
                Message=message.forms,
                MessageStructure="json",
                MessageAttributes=message.attributes,
            )
        except (ClientError, BotoCoreError) as error:
            raise SinkError(f"cannot publish to {self._topic_arn}: {error}") from error
        return str(answer["MessageId"])
