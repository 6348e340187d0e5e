"""The Riskwatch view in the Airflow UI.

It shows the state of the fleet, abnormal rows with their reasons, and the model in service.

`snapshot` reads the bucket and shares the result among visitors for some seconds. `queries` computes plain values from
a snapshot. `filters` is the part of a view that its URL carries. `formatting` turns values into text. `routes` has the
routes, and `app` puts them behind Airflow's login.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI

PREFIX = "/riskwatch"


class Dashboard:
    """The ASGI app, built at its first request.

    Airflow also creates this object in components that serve no view.
    """

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        await self.app(scope, receive, send)

    @cached_property
    def app(self) -> FastAPI:
        """The FastAPI app."""
        from riskwatch_dashboard.app import build

        return build()
