"""Riskwatch's pages in the Airflow UI: what the fleet does, what is abnormal and why, and which model says so.

`sources` reaches the bucket and keeps what was read for some seconds; `reads` asks questions of it and answers in plain
values; `filters` is the part of a page that its address holds; `words` writes values for people; `app` has the routes.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI

PREFIX = "/riskwatch"


class Dashboard:
    """The ASGI app, built at its first request: Airflow makes this object in components that serve no page."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        await self.app(scope, receive, send)

    @cached_property
    def app(self) -> FastAPI:
        """The app itself."""
        from riskwatch_dashboard.app import build

        return build()
