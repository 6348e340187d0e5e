"""Registers Riskwatch's pages with Airflow: one app behind Airflow's login and one entry in the navigation.

Every component loads this file at its start, so it holds names only; the app is built in the api-server, at the first
request for one of its pages.
"""

from urllib.parse import urlsplit

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin

from riskwatch_airflow import one_writer
from riskwatch_dashboard import PREFIX, Dashboard

# Airflow mounts the app below the path of its own address, and opens the address of a view as it is given.
_BASE = urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")


class RiskwatchPlugin(AirflowPlugin):
    """The plugin; what it adds is listed under /api/v2/plugins."""

    name = "riskwatch"
    fastapi_apps = [{"app": Dashboard(), "url_prefix": PREFIX, "name": "Riskwatch"}]  # noqa: RUF012
    fastapi_root_middlewares = one_writer.middlewares(conf.get("database", "sql_alchemy_conn", fallback=""))
    external_views = [  # noqa: RUF012
        {
            "name": "Riskwatch",
            "href": f"{_BASE}{PREFIX}/",
            "destination": "nav",
            "url_route": "riskwatch",
            "nav_top_level": True,
        }
    ]
