"""Data Docs: the HTML report of a validation, rendered by Great Expectations.

Each interval has one document in the bucket. It is a single file, not a site, so that a link to the object is enough.
It loads nothing from other hosts and runs no script: those of Great Expectations' own template are removed, and a
content security policy forbids them.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import numpy as np

from riskwatch_ml.core import clock
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from riskwatch_expectations.validate import Interval
    from riskwatch_ml.storage.bucket import Store

# Documents per account and region: a week of hourly ones, about 60 KB each.
KEPT = 168
# Values that a document shows per expectation; the results contain all values.
SHOWN = 20
# Parts of the template that load or run something. Text of rows is escaped: it has no tag and no quotation mark.
_FOREIGN = re.compile(
    r"""<script\b.*?</script\s*>|<(?:link|img)\b[^>]*>|\bonclick="[^"]*"|\burl\('[^']*'\)""", re.DOTALL | re.IGNORECASE
)
# The template has the classes of Bootstrap; these are the few rules that the document needs of it.
_HEAD = """<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>
body { font: 14px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 1200px; padding: 16px; }
table { border-collapse: collapse; margin: 8px 0; }
th, td { border: 1px solid #ccc; padding: 4px 8px; text-align: left; vertical-align: top; }
.badge { background: #eee; border-radius: 4px; padding: 1px 6px; }
.alert, .card { border: 1px solid #ccc; margin: 8px 0; padding: 8px; }
.text-success { color: #187a2f; }
.text-danger { color: #b3261e; }
.fa-check-circle::before { content: "\\2713"; }
.fa-times::before { content: "\\2717"; }
.modal, .navbar, .sticky, .btn, button, footer, [data-toggle] { display: none; }
</style>
"""
_SHOWN = ("partial_unexpected_list", "partial_unexpected_counts", "partial_unexpected_index_list")
_HIDDEN = ("unexpected_list", "unexpected_index_list", "unexpected_index_query")


def write(store: Store, outcomes: Sequence[Any], interval: Interval, part: str) -> str:
    """Write the document of an interval and a part, and return its key."""
    key = keys.data_docs(interval.start, interval.end, part)
    name = f"{part}: {clock.iso(interval.start)} to {clock.iso(interval.end)}"
    store.put_html(key, render(outcomes, name))
    return key


def tidy(store: Store, written: Collection[str]) -> None:
    """Delete all but the newest `KEPT` documents of each part.

    The documents `written` just now are never deleted.
    """
    counts: Counter[str] = Counter()
    # Newest by the time of writing: a backfill writes documents of past intervals.
    for key in store.newest_keys(keys.DATA_DOCS):
        part = keys.data_docs_part(key)
        counts[part] += 1
        if counts[part] > KEPT and key not in written:
            store.delete(key)


def link(store: Store, key: str) -> str:
    """Return the URL of an object for people: in the AWS console or the embedded AWS."""
    endpoint, region = str(store.client.meta.endpoint_url), store.client.meta.region_name
    if not str(urlsplit(endpoint).hostname).endswith(".amazonaws.com"):
        return f"{endpoint}/{store.bucket}/{quote(key)}"
    return f"https://{region}.console.aws.amazon.com/s3/object/{store.bucket}?region={region}&prefix={quote(key)}"


def render(outcomes: Sequence[Any], name: str) -> str:
    """Return the HTML document of the results of all suites under one name."""
    from great_expectations.core import ExpectationSuiteValidationResult
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    passed = sum(bool(outcome.success) for outcome in outcomes)
    result = ExpectationSuiteValidationResult(
        success=passed == len(outcomes),
        results=[_shown(outcome) for outcome in outcomes],
        suite_name=html.escape(name),
        statistics={
            "evaluated_expectations": len(outcomes),
            "successful_expectations": passed,
            "unsuccessful_expectations": len(outcomes) - passed,
            "success_percent": 100.0 * passed / max(len(outcomes), 1),
        },
    )
    page: str = DefaultJinjaPageView().render(ValidationResultsPageRenderer().render(result))
    return _FOREIGN.sub("", page).replace("<head>", f"<head>\n{_HEAD}", 1)


def _shown(outcome: Any) -> Any:
    from great_expectations.core import ExpectationValidationResult

    result = {name: value for name, value in outcome.result.items() if name not in _HIDDEN}
    for name in _SHOWN:
        if isinstance(result.get(name), list):
            result[name] = result[name][:SHOWN]
    return ExpectationValidationResult(
        success=bool(outcome.success),
        expectation_config=outcome.expectation_config,
        result=_plain(result),
        exception_info=_plain(outcome.exception_info),
    )


def _plain(value: Any) -> Any:
    """Convert values for the templates: no NumPy numbers, and all text escaped."""
    if isinstance(value, str):
        return html.escape(value)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
