"""One writing request at a time in an api-server on SQLite.

Airflow 3.3 writes its audit log on the event loop of the api-server. If another request holds SQLite's lock, that
request cannot commit before the loop goes on, and the loop waits for the lock: both wait until SQLite gives up.
Meanwhile the scheduler and all tasks wait too, and end. Other databases lock rows, so their requests need no turns.

Airflow refuses backfills on SQLite, but only after it has made their runs, which it then deletes. A scheduler that has
read such a run ends. So the request is refused before.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[Message, Receive, Send], Awaitable[None]]

READING = ("GET", "HEAD", "OPTIONS")
BACKFILLS = "/api/v2/backfills"
NO_BACKFILLS = (
    "Airflow makes no backfills on SQLite: use Postgres, or trigger the DAG by hand with start and end of the interval"
)


class OneWriter:
    """An ASGI middleware that lets requests which may write pass one after another."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request, after those before it if it may write."""
        if scope["type"] != "http" or scope["method"] in READING:
            await self._app(scope, receive, send)
            return
        if scope["method"] == "POST" and scope["path"].rstrip("/").endswith(BACKFILLS):
            await _refuse(send)
            return
        async with self._turn:
            await self._app(scope, receive, send)


async def _refuse(send: Send) -> None:
    """Answer as Airflow does, with 503."""
    body = json.dumps({"detail": NO_BACKFILLS}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def middlewares(database_url: str) -> list[dict[str, object]]:
    """Return the root middlewares that a plugin registers for Airflow's database: none except on SQLite."""
    if not database_url.startswith("sqlite"):
        return []
    return [{"middleware": OneWriter, "args": [], "kwargs": {}, "name": "one writer on SQLite"}]
