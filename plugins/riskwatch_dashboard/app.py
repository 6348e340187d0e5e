"""The routes: every one behind Airflow's login, none of them ever answering with a traceback.

Files are served by a route too, because an app mounted inside this one would not ask for the login.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from riskwatch_dashboard import filters as filters_module
from riskwatch_dashboard import formatting, queries, snapshot
from riskwatch_dashboard.snapshot import Source, UnavailableError
from riskwatch_lambda.scoring.labelled_row import RISKS
from riskwatch_ml.core import clock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from riskwatch_dashboard.alert_state import Quiet
    from riskwatch_dashboard.filters import Filters
    from riskwatch_dashboard.snapshot import Look

_FOLDER = Path(__file__).parent
_FILES = {"riskwatch.css": "text/css; charset=utf-8"}
_HEADERS = {
    # No script at all; Airflow shows the page in a frame of its own address.
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
_SHOWN = ("cpu_utilization", "memory_utilization", "latency_ms")
_COLUMNS = 3

_log = logging.getLogger(__name__)


def build(source: Source | None = None) -> FastAPI:
    """Return the app; `source` is asked for what the pages show, the bucket of the settings if None."""
    shown = source or Source(snapshot.look)
    pages = _environment()
    app = FastAPI(title="Riskwatch", docs_url=None, redoc_url=None, openapi_url=None, dependencies=[Depends(_access())])

    @app.middleware("http")
    async def secured(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        try:
            response = await answer(request)
        except Exception:
            _log.exception("a Riskwatch page failed: %s", request.url.path)
            response = HTMLResponse(
                _problem(
                    pages,
                    "This page failed",
                    "What happened is in the log of the api-server. Load the page again; if it fails again, report it "
                    "with that log.",
                ),
                500,
            )
        response.headers.update(_HEADERS)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    @app.get("/")
    def overview(request: Request) -> Response:
        try:
            look = shown.get()
        except UnavailableError as error:
            return HTMLResponse(_problem(pages, error.title, error.advice), 503)
        chosen, problems = filters_module.parse(request.query_params, look.reading.metrics)
        framed = request.headers.get("sec-fetch-dest") == "iframe"
        text = pages.get_template("overview.html").render(**_overview(look, chosen, problems), framed=framed)
        return HTMLResponse(text, 400 if problems else 200)

    @app.get("/api/rows")
    def rows(request: Request) -> Response:
        try:
            look = shown.get()
        except UnavailableError as error:
            return JSONResponse({"error": error.title, "advice": error.advice}, 503)
        chosen, problems = filters_module.parse(request.query_params, look.reading.metrics)
        if problems:
            return JSONResponse({"error": " ".join(problems)}, 400)
        return JSONResponse(_document(look, chosen))

    @app.get("/static/{name}")
    def file(name: str) -> Response:
        if name not in _FILES:
            raise HTTPException(404)
        # The address carries the digest of the content.
        kept = {"Cache-Control": "private, max-age=86400"}
        return Response((_FOLDER / "static" / name).read_bytes(), media_type=_FILES[name], headers=kept)

    return app


def _access() -> Callable[..., Any]:
    """Return the dependency that lets logged-in users of Airflow in, or nobody where Airflow offers none."""
    try:
        from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
        from airflow.api_fastapi.core_api.security import requires_access_view

        return requires_access_view(AccessView.PLUGINS)
    except (ImportError, AttributeError):
        _log.exception("Riskwatch's pages stay closed: this Airflow offers no check of its login that they know")

        def closed() -> None:
            raise HTTPException(403, "Riskwatch's pages need Airflow 3.2 or newer: see the log of the api-server")

        return closed


def _environment() -> Environment:
    # Names and reasons come from whoever names an instance: everything is escaped, whatever the file is called.
    pages = Environment(
        loader=FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters.update(number=formatting.number, moment=formatting.moment, iso=clock.iso)
    style = (_FOLDER / "static" / "riskwatch.css").read_bytes()
    pages.globals.update(style_version=hashlib.sha256(style).hexdigest()[:12], risks=RISKS, app_name="Riskwatch")
    return pages


def _problem(pages: Environment, title: str, advice: str) -> str:
    return pages.get_template("problem.html").render(title=title, advice=advice)


def _overview(look: Look, filters: Filters, problems: list[str]) -> dict[str, Any]:
    reading = look.reading
    newest = reading.newest
    return {
        "quiet": look.quiet.narrowed(filters.instance, queries.instances(reading)),
        "filters": filters,
        "problems": problems,
        "shares": queries.distribution(reading),
        "total": len(reading.rows),
        "abnormal": queries.abnormal_count(reading),
        "page": queries.page(reading, filters),
        "metrics": reading.metrics,
        "columns": _columns(reading.metrics, filters.metric),
        "units": look.units,
        "model": reading.model,
        "model_link": look.model_link,
        "newest": newest,
        "newest_age": None if newest is None else formatting.age(clock.now() - newest),
        "since": reading.since,
        "complete": reading.complete,
    }


def _columns(metrics: tuple[str, ...], chosen: str) -> list[str]:
    """The metrics with a column: the chosen one, then those that say most about load, then the first."""
    usual = [name for name in _SHOWN if name in metrics]
    wanted = dict.fromkeys([*([chosen] if chosen in metrics else []), *usual, *metrics])
    return list(wanted)[:_COLUMNS]


def _document(look: Look, filters: Filters) -> dict[str, Any]:
    page = queries.page(look.reading, filters)
    newest = look.reading.newest
    quiet = look.quiet.narrowed(filters.instance, queries.instances(look.reading))
    return {
        "rows": [
            {
                **{name: value for name, value in asdict(row).items() if name != "values"},
                "timestamp": clock.iso(row.timestamp),
                **row.values,
            }
            for row in page.rows
        ],
        "total": page.total,
        "page": page.number,
        "pages": page.pages,
        "size": filters.size,
        "since": clock.iso(look.reading.since),
        "complete": look.reading.complete,
        "newest": None if newest is None else clock.iso(newest),
        "newest_age_s": None if newest is None else round((clock.now() - newest).total_seconds()),
        "distribution": {share.risk: share.count for share in queries.distribution(look.reading)},
        **_quiet_document(quiet),
        "model": None
        if look.reading.model is None
        else {**asdict(look.reading.model), "promoted": clock.iso(look.reading.model.promoted)},
    }


def _quiet_document(quiet: Quiet) -> dict[str, Any]:
    if quiet.problem:
        return {"maintenance": None, "silent": None, "quiet_problem": quiet.problem}
    names = ("scope", "name", "by", "reason")
    return {
        "maintenance": [
            {**{name: getattr(each, name) for name in names}, "until": clock.iso(each.until)} for each in quiet.windows
        ],
        "silent": [{**asdict(each), "since": clock.iso(each.since)} for each in quiet.silent],
        "quiet_problem": None,
    }
