"""The app: Airflow's login before every route, and no traceback in any response.

A browser that opens a view without a login is sent to Airflow's login, which leads back. Every other request without a
login gets 401.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exception_handlers import http_exception_handler
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from riskwatch_dashboard import PREFIX, routes, snapshot
from riskwatch_dashboard.snapshot import Snapshot, Snapshots

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from riskwatch_dashboard.filters import Selection

_HEADERS = {
    # No scripts at all. Airflow shows the view in a frame of the same origin.
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}

_log = logging.getLogger(__name__)


def build(look: Callable[[Selection], Snapshot] = snapshot.take_snapshot) -> FastAPI:
    """Return the app.

    `look` reads the data of the views, by default from the bucket of the settings.
    """
    templates = routes.environment()
    app = FastAPI(title="Riskwatch", docs_url=None, redoc_url=None, openapi_url=None, dependencies=[Depends(_access())])
    app.include_router(routes.router(Snapshots(look), templates))

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        if error.status_code == 401 and _opens_view(request):
            return RedirectResponse(_login_url(request), 303)
        return await http_exception_handler(request, error)

    @app.middleware("http")
    async def secured(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        try:
            response = await answer(request)
        except Exception:
            _log.exception("a Riskwatch view failed: %s", request.url.path)
            advice = (
                "The log of the api-server has the details. Load the view again; if it fails again, report it with "
                "that log."
            )
            response = HTMLResponse(routes.problem_view(templates, "This view failed", advice), 500)
        response.headers.update(_HEADERS)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    return app


def _opens_view(request: Request) -> bool:
    """Return whether a browser navigates to a view."""
    root = request.scope.get("root_path", "")
    if request.method != "GET" or request.scope["path"].removeprefix(root) not in ("", "/"):
        return False
    mode = request.headers.get("sec-fetch-mode")
    # Browsers send the header on HTTPS and loopback only.
    return mode == "navigate" if mode else request.headers.get("accept", "").startswith("text/html")


def _login_url(request: Request) -> str:
    """Return the path of Airflow's login, which leads back to this view.

    Both are paths without a host: nothing in the request can lead to another origin.
    """
    root = request.scope.get("root_path", "")
    query = request.scope["query_string"].decode("latin-1")
    back = f"{root}/?{query}" if query else f"{root}/"
    return f"{root.removesuffix(PREFIX)}/auth/login?{urlencode({'next': back})}"


def _access() -> Callable[..., Any]:
    """Return the dependency that admits users of Airflow who are logged in.

    If this Airflow offers no such check, the dependency refuses every request.
    """
    try:
        from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
        from airflow.api_fastapi.core_api.security import requires_access_view

        return requires_access_view(AccessView.PLUGINS)
    except (ImportError, AttributeError):
        _log.exception("the Riskwatch view stays closed: this version of Airflow offers no login check that it knows")

        def closed() -> None:
            raise HTTPException(403, "the Riskwatch view needs Airflow 3.2 or newer: see the log of the api-server")

        return closed
