"""The routes: the overview, the same rows as JSON, and the static files.

A route serves the static files because an app mounted inside this one would not ask for Airflow's login.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from riskwatch_dashboard import filters as filters_module
from riskwatch_dashboard import formatting, queries
from riskwatch_dashboard.snapshot import UnavailableError
from riskwatch_lambda.scoring.labelled_row import RISKS
from riskwatch_ml.core import clock

if TYPE_CHECKING:
    from riskwatch_dashboard.alert_state import AlertState, Held
    from riskwatch_dashboard.filters import Filters, Selection
    from riskwatch_dashboard.kind_models import KindModel
    from riskwatch_dashboard.snapshot import Snapshot, Snapshots

_FOLDER = Path(__file__).parent
_FILES = {"riskwatch.css": "text/css; charset=utf-8"}
_SHOWN = ("cpu_utilization", "memory_utilization", "latency_ms")
_COLUMNS = 3


class QuietDocument(TypedDict):
    """Maintenance windows, instances without data and held openings; None if they are unknown."""

    maintenance: list[dict[str, object]] | None
    silent: list[dict[str, object]] | None
    held: list[dict[str, object]] | None
    quiet_problem: str | None


class RowsDocument(QuietDocument):
    """The JSON document of `/api/rows`; its times are ISO 8601 in UTC.

    `rows` has one object per labelled row, with a key for each metric. `page` counts from 1.
    """

    rows: list[dict[str, object]]
    total: int
    page: int
    pages: int
    size: int
    since: str
    until: str
    complete: bool
    newest: str | None
    newest_age_s: int | None
    distribution: dict[str, int]
    model: dict[str, object] | None
    disagreements: list[str]
    new_instance: dict[str, object] | None


def router(source: Snapshots, templates: Environment) -> APIRouter:
    """Return the routes of the views that `source` fills."""
    routes = APIRouter()

    @routes.get("/")
    def overview(request: Request) -> Response:
        try:
            look = source.get(_selection(request))
        except UnavailableError as error:
            return HTMLResponse(problem_view(templates, error.title, error.advice), 503)
        filters, problems = _filters(request, look)
        framed = request.headers.get("sec-fetch-dest") == "iframe"
        text = templates.get_template("overview.html").render(**_overview(look, filters, problems), framed=framed)
        return HTMLResponse(text, 400 if problems else 200)

    @routes.get("/api/rows")
    def rows(request: Request) -> Response:
        try:
            look = source.get(_selection(request))
        except UnavailableError as error:
            return JSONResponse({"error": error.title, "advice": error.advice}, 503)
        filters, problems = _filters(request, look)
        if problems:
            return JSONResponse({"error": " ".join(problems)}, 400)
        return JSONResponse(_document(look, filters))

    @routes.get("/static/{name}")
    def file(name: str) -> Response:
        if name not in _FILES:
            raise HTTPException(404)
        # The URL in the views contains a hash of the content, so browsers may cache the file.
        headers = {"Cache-Control": "private, max-age=86400"}
        return Response((_FOLDER / "static" / name).read_bytes(), media_type=_FILES[name], headers=headers)

    return routes


def _selection(request: Request) -> Selection:
    # Before the read, the metrics of the rows are unknown; they are not part of a selection.
    return filters_module.parse(request.query_params, ())[0].selection


def _filters(request: Request, look: Snapshot) -> tuple[Filters, list[str]]:
    return filters_module.parse(request.query_params, look.reading.metrics, look.reading.kinds)


def environment() -> Environment:
    """Return the environment that renders the templates."""
    # Users choose the names and reasons that the views show: every value is escaped, whatever the file extension.
    templates = Environment(
        loader=FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(number=formatting.number, moment=formatting.moment, iso=clock.iso)
    style = (_FOLDER / "static" / "riskwatch.css").read_bytes()
    templates.globals.update(style_version=hashlib.sha256(style).hexdigest()[:12], risks=RISKS, app_name="Riskwatch")
    return templates


def problem_view(templates: Environment, title: str, advice: str) -> str:
    """Return the HTML of a view that says what is wrong and what to do."""
    return templates.get_template("problem.html").render(title=title, advice=advice)


def _overview(look: Snapshot, filters: Filters, problems: list[str]) -> dict[str, object]:
    """Return the variables of the template of the overview."""
    reading = look.reading
    newest = reading.newest
    return {
        "quiet": look.quiet.filtered(filters.selection, queries.instances(reading)),
        "filters": filters,
        "problems": problems,
        "shares": queries.distribution(reading),
        "total": len(reading.rows),
        "abnormal": queries.abnormal_count(reading),
        "page": queries.page(reading, filters),
        "metrics": reading.metrics,
        "kinds": reading.kinds if reading.has_several_kinds else (),
        "columns": _columns(reading.metrics_of(filters.kind), filters.metric),
        "units": look.units,
        "model": reading.model,
        "model_link": look.model_link,
        "disagreements": look.disagreements,
        "new_instance": look.new_instance,
        "unexpected_model": queries.unexpected_model(reading),
        "newest": newest,
        "newest_age": None if newest is None else formatting.age(clock.now() - newest),
        "since": reading.since,
        "until": min(reading.until, reading.at),
        "complete": reading.complete,
        "last_day": reading.selection == filters_module.EVERYTHING,
        "read_on": filters.query(since=reading.selection.since, until=reading.read_on, page=1),
    }


def _columns(metrics: tuple[str, ...], selected: str) -> list[str]:
    """Return the metrics that get a column.

    The selected metric comes first, then the usual ones, then the others.
    """
    usual = [name for name in _SHOWN if name in metrics]
    ordered = dict.fromkeys([*([selected] if selected in metrics else []), *usual, *metrics])
    return list(ordered)[:_COLUMNS]


def _document(look: Snapshot, filters: Filters) -> RowsDocument:
    reading = look.reading
    page = queries.page(reading, filters)
    newest = reading.newest
    quiet = look.quiet.filtered(filters.selection, queries.instances(reading))
    return {
        "rows": [_row_document(row) for row in page.rows],
        "total": page.total,
        "page": page.number,
        "pages": page.pages,
        "size": filters.size,
        "since": clock.iso(reading.since),
        "until": clock.iso(reading.until),
        "complete": reading.complete,
        "newest": None if newest is None else clock.iso(newest),
        "newest_age_s": None if newest is None else round((clock.now() - newest).total_seconds()),
        "distribution": {share.risk: share.count for share in queries.distribution(reading)},
        **_quiet_document(quiet),
        "model": None if reading.model is None else _model_document(reading.model),
        "disagreements": list(look.disagreements),
        "new_instance": None
        if look.new_instance is None
        else {**asdict(look.new_instance), "learnable": clock.iso(look.new_instance.learnable)},
    }


def _model_document(model: queries.Model) -> dict[str, object]:
    """Return the model as JSON; kinds are named only if there are several."""
    fields = {**asdict(model), "promoted": clock.iso(model.promoted)}
    if not model.kinds:
        return {name: value for name, value in fields.items() if name not in ("kinds", "promoted_kinds")}
    return {**fields, "kinds": [_kind_document(part) for part in model.kinds]}


def _kind_document(part: KindModel) -> dict[str, object]:
    times = {"trained": part.trained, "promoted": part.promoted}
    return {**asdict(part), **{name: None if at is None else clock.iso(at) for name, at in times.items()}}


def _row_document(row: queries.Row) -> dict[str, object]:
    fields = {name: value for name, value in asdict(row).items() if name != "values"}
    return {**fields, "timestamp": clock.iso(row.timestamp), **row.values}


def _quiet_document(quiet: AlertState) -> QuietDocument:
    if quiet.problem:
        return {"maintenance": None, "silent": None, "held": None, "quiet_problem": quiet.problem}
    names = ("scope", "name", "by", "reason")
    return {
        "maintenance": [
            {**{name: getattr(window, name) for name in names}, "until": clock.iso(window.until)}
            for window in quiet.windows
        ],
        "silent": [{**asdict(instance), "since": clock.iso(instance.since)} for instance in quiet.silent],
        "held": [_held_document(held) for held in quiet.held],
        "quiet_problem": quiet.left_out or None,
    }


def _held_document(held: Held) -> dict[str, object]:
    end = None if held.end is None else clock.iso(held.end)
    return {**asdict(held), "since": clock.iso(held.since), "end": end}
