"""The SNS topic that alert messages go to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from riskwatch_lambda.alerting.messages import Message


class SinkError(RuntimeError):
    """A message cannot be sent. A later try may succeed."""


class Publisher:
    """Sends alert messages to one SNS topic."""

    def __init__(self, client: Any, topic_arn: str) -> None:
        self._client = client
        self._topic_arn = topic_arn

    def send(self, message: Message) -> str:
        """Publish a message and return its SNS message id; raises SinkError."""
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
