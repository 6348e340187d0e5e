"""Messages to the operators of Riskwatch itself: the log, and the operations topic if the settings name it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from riskwatch_airflow import clients

if TYPE_CHECKING:
    from collections.abc import Mapping

    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.storage.bucket import Store

_log = logging.getLogger(__name__)


def report_changes(
    config: Settings,
    store: Store,
    key: str,
    subject: str,
    current: Mapping[str, str],
    advice: str,
    gone: str = "no longer",
) -> None:
    """Send a message if problems came or went since the last one, and keep under `key` what it named.

    `current` has each problem that lasts, in words, by a name. `gone` is said before each that is not there any more. A
    refused message is sent by the next call.
    """
    before = store.get_state(key, lambda value: {str(name): str(text) for name, text in value.items()}) or {}
    if current.keys() == before.keys():
        return
    came = [f"- {text}" for name, text in current.items() if name not in before]
    went = [f"- {gone}: {text}" for name, text in before.items() if name not in current]
    if send(config, subject, "\n".join([*came, *went, "", advice])):
        store.put_json(key, dict(current))


def send(config: Settings, subject: str, text: str) -> bool:
    """Log a message and send it to the operations topic, if the settings name it.

    Returns False if the topic did not take the message, so that the caller sends it again later.
    """
    _log.warning("%s:\n%s", subject, text)
    if not config.operations_topic_arn:
        return True
    try:
        clients.client(config, "sns").publish(TopicArn=config.operations_topic_arn, Subject=subject, Message=text)
    except (ClientError, BotoCoreError) as error:
        _log.warning("the message was not sent to %s: %s", config.operations_topic_arn, error)
        return False
    return True
