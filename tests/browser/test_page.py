"""The view in a real browser: Airflow's login and navigation, incidents of the demo."""

import re
import shutil
import time

import boto3
import httpx
import pytest

from riskwatch_lambda.alerting.maintenance import ALL, MaintenanceWindow, MaintenanceWindows
from riskwatch_lambda.table import Table
from riskwatch_ml.core import clock

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(540)]

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
ROUTES = ("/riskwatch/", "/riskwatch/api/rows", "/riskwatch/static/riskwatch.css")
WAIT_MS = 60_000


@pytest.fixture(scope="module")
def chromium():
    """Start a browser without a window."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("no chromium on the PATH: install it (apt-get install chromium) to run the browser tests")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def inside(chromium, loop):
    """Log in to Airflow in a browser window that collects the messages of its console."""
    system = loop[0].system
    window = chromium.new_context(viewport={"width": 1280, "height": 900}).new_page()
    window.set_default_timeout(WAIT_MS)
    window.complaints = []
    window.on("console", lambda message: window.complaints.append(message.text))
    window.on("pageerror", lambda error: window.complaints.append(str(error)))
    window.goto(f"{system.airflow_url}/")
    window.fill("input[name=username]", system.login.user)
    window.fill("input[name=password]", system.login.password)
    window.click("button[type=submit]")
    window.wait_for_url(f"{system.airflow_url}/**")
    return window


@pytest.fixture
def page(inside):
    """Open the view in Airflow's frame by a click in the navigation."""
    inside.get_by_role("link", name="Riskwatch").first.click()
    frame = inside.frame_locator("iframe[title=Riskwatch]")
    frame.locator("table.rows").wait_for()
    return frame


def met(summary):
    return {item["instance_id"] for item in summary["incidents"]["list"] if item["met"]}


def test_the_plugin_is_listed_with_app_and_view(loop):
    # An entry that Airflow cannot use drops the whole plugin and leaves no import error.
    system = loop[0].system
    login = {"username": system.login.user, "password": system.login.password}
    token = httpx.post(f"{system.airflow_url}/auth/token", json=login, timeout=60).json()["access_token"]
    answer = httpx.get(
        f"{system.airflow_url}/api/v2/plugins", headers={"Authorization": f"Bearer {token}"}, timeout=60
    ).json()
    plugins = {plugin["name"]: plugin for plugin in answer["plugins"]}
    assert [app["url_prefix"] for app in plugins["riskwatch"]["fastapi_apps"]] == ["/riskwatch"]
    assert [view["href"] for view in plugins["riskwatch"]["external_views"]] == ["/riskwatch/"]


def test_without_a_login_every_route_is_closed(loop):
    # GIVEN every path of the app
    from riskwatch_dashboard.app import build

    paths = {f"/riskwatch{route.path.replace('{name}', 'riskwatch.css')}" for route in build().routes}
    assert paths == set(ROUTES)
    # THEN none of them answers a visitor without a token, or with a wrong one
    for path in ROUTES:
        url = f"{loop[0].system.airflow_url}{path}"
        assert httpx.get(url, timeout=60).status_code in (401, 403)
        assert httpx.get(url, headers={"Authorization": "Bearer wrong"}, timeout=60).status_code in (401, 403)
        assert httpx.get(url, cookies={"_token": "wrong"}, timeout=60).status_code in (401, 403)


def test_critical_rows_name_the_instance_of_an_incident(loop, inside, page):
    # GIVEN the view, opened from Airflow's navigation, and incidents that were met
    summary = loop[1]
    assert met(summary)

    # WHEN its rows are filtered to Critical by the form
    page.get_by_label("Risk", exact=True).select_option("Critical")
    page.get_by_role("button", name="Apply").click()
    page.locator("tr.abnormal").first.wait_for()
    page.locator("table.rows tbody tr:not(.risk-critical)").first.wait_for(state="detached")

    # THEN every row is Critical, says why, and among them are the instances of the incidents
    rows = page.locator("table.rows tbody tr")
    risks = page.locator("table.rows tbody td.risk").all_inner_texts()
    assert len(risks) == rows.count() == min(200, summary["stream"]["risk"]["Critical"])
    assert all(risk.startswith("Critical") for risk in risks)
    assert all(why.strip() for why in page.locator("table.rows td.why").all_inner_texts())
    assert met(summary) & set(page.locator("table.rows td.name a").all_inner_texts())
    # AND the filtered view has its own URL
    assert "risk=Critical" in inside.url or any("risk=Critical" in frame.url for frame in inside.frames)


def test_the_shares_are_those_of_the_demo(loop, page):
    shown = {
        re.split(r"\s{2,}|\t|\n", text.strip())[0]: int(re.search(r"(\d[\d,]*)\s+[\d.]+ %", text)[1].replace(",", ""))
        for text in page.locator("table.bars tbody tr").all_inner_texts()
    }
    risks = loop[1]["stream"]["risk"]
    assert shown == {name: risks.get(name, 0) for name in ("Idle", "Normal", "High Load", "Critical")}


def test_the_model_is_the_one_that_was_promoted(loop, page):
    promoted = loop[1]["promoted"]
    card = page.get_by_role("region", name="Model in service")
    assert promoted["family"] in card.inner_text()
    assert promoted["digest"][:12] in card.inner_text()
    link = card.get_by_role("link", name="Open in MLflow")
    assert link.get_attribute("href").startswith(f"{loop[0].system.mlflow_url}/#/models/riskwatch/versions/")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (800, "dark")])
def test_the_view_works_outside_the_frame_and_fits(loop, inside, width, scheme):
    # GIVEN the view outside Airflow's frame, in a narrow and a wide window
    window = inside.context.new_page()
    window.emulate_media(color_scheme=scheme)
    window.set_viewport_size({"width": width, "height": 800})
    complaints = []
    window.on("console", lambda message: complaints.append(message.text))
    # WHEN it is opened
    answer = window.goto(f"{loop[0].system.airflow_url}/riskwatch/?abnormal=1")
    # THEN it is styled, nothing is cut off sideways, and the browser blocked nothing
    assert answer.status == 200
    assert window.evaluate("getComputedStyle(document.querySelector('.rows th')).position") == "sticky"
    assert window.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert [text for text in complaints if "Content Security Policy" in text] == []
    # AND the table's head stays in sight
    window.evaluate("scrollTo(0, document.body.scrollHeight / 2)")
    assert window.locator(".rows thead").bounding_box()["y"] < 1
    window.close()


@pytest.fixture
def window_of_all(loop, monkeypatch):
    """Add a maintenance window of the whole fleet, and remove it at the end."""
    for name, value in loop[0].system.environment.items():
        monkeypatch.setenv(name, value)
    table = Table(boto3.session.Session().client("dynamodb"), loop[0].system.outputs.table)
    now_ms = clock.epoch_ms(clock.now())
    declared = MaintenanceWindow("browser", ALL, "", now_ms, now_ms + 3_600_000, "<b>cable</b> & switch", "ada", now_ms)
    MaintenanceWindows(table).add(declared)
    yield declared
    MaintenanceWindows(table).remove(declared, clock.epoch_ms(clock.now()), "ada")


def test_the_view_shows_a_maintenance_window(loop, inside, window_of_all):
    # GIVEN a window of the whole fleet; the view shows data that are some seconds old
    window = inside.context.new_page()
    shown = window.get_by_role("region", name="Maintenance and missing data")
    deadline = time.monotonic() + WAIT_MS / 1000
    while not shown.count() and time.monotonic() < deadline:
        window.goto(f"{loop[0].system.airflow_url}/riskwatch/")
        window.wait_for_timeout(1000)
    # THEN it shows the scope, the end, the user and the reason, and marks every row
    text = shown.inner_text()
    until = clock.from_epoch_ms(window_of_all.until_ms)
    assert all(part in text for part in ("all instances", f"{until:%Y-%m-%d %H:%M}", "ada", "<b>cable</b> & switch"))
    rows = window.locator("table.rows tbody tr").count()
    assert window.locator("table.rows .badge.maintenance").count() == rows > 0
    window.close()


def test_the_form_works_by_keyboard(page, inside):
    page.get_by_label("Instance", exact=True).fill("no-such-instance")
    inside.keyboard.press("Enter")
    page.get_by_text("No row from").wait_for()
    page.get_by_role("link", name="Show all").press("Enter")
    page.locator("table.rows").wait_for()


def test_the_frame_had_nothing_to_block(inside):
    assert [text for text in inside.complaints if "Content Security Policy" in text or "riskwatch" in text] == []
