"""The page about a validation: Great Expectations' own rendering (Data Docs), one page an interval, kept in the bucket.

One page and no site, so that a link to the object is all that a reader needs; the styles come from public addresses.
"""

from __future__ import annotations

import html
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

# Of each account and region: a week of hourly pages of about 60 KB.
KEPT = 168
# Values that a page shows of one expectation; results hold every one.
SHOWN = 20
_SHOWN = ("partial_unexpected_list", "partial_unexpected_counts", "partial_unexpected_index_list")
_HIDDEN = ("unexpected_list", "unexpected_index_list", "unexpected_index_query")


def write(store: Store, outcomes: Sequence[Any], interval: Interval, part: str) -> str:
    """Write the page of an interval and a part, and return its key."""
    key = keys.data_docs(interval.start, interval.end, part)
    name = f"{part}: {clock.iso(interval.start)} to {clock.iso(interval.end)}"
    store.put_page(key, render(outcomes, name))
    return key


def tidy(store: Store, written: Collection[str]) -> None:
    """Remove, of each part, all but the KEPT pages that were written last, and none of those `written` just now."""
    kept: Counter[str] = Counter()
    # By when they were written: a backfill writes pages of the past.
    for key in store.newest_keys(keys.DATA_DOCS):
        part = keys.data_docs_part(key)
        kept[part] += 1
        if kept[part] > KEPT and key not in written:
            store.delete(key)


def link(store: Store, key: str) -> str:
    """Return the address under which a person opens an object: the console of AWS, or an embedded AWS itself."""
    endpoint, region = str(store.client.meta.endpoint_url), store.client.meta.region_name
    if not str(urlsplit(endpoint).hostname).endswith(".amazonaws.com"):
        return f"{endpoint}/{store.bucket}/{quote(key)}"
    return f"https://{region}.console.aws.amazon.com/s3/object/{store.bucket}?region={region}&prefix={quote(key)}"


def render(outcomes: Sequence[Any], name: str) -> str:
    """Return the HTML page of results, whichever suites they are of, under one name."""
    from great_expectations.core import ExpectationSuiteValidationResult
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    met = sum(bool(outcome.success) for outcome in outcomes)
    result = ExpectationSuiteValidationResult(
        success=met == len(outcomes),
        results=[_shown(outcome) for outcome in outcomes],
        suite_name=html.escape(name),
        statistics={
            "evaluated_expectations": len(outcomes),
            "successful_expectations": met,
            "unsuccessful_expectations": len(outcomes) - met,
            "success_percent": 100.0 * met / max(len(outcomes), 1),
        },
    )
    page: str = DefaultJinjaPageView().render(ValidationResultsPageRenderer().render(result))
    return page


def _shown(outcome: Any) -> Any:
    from great_expectations.core import ExpectationValidationResult

    kept = {name: value for name, value in outcome.result.items() if name not in _HIDDEN}
    for name in _SHOWN:
        if isinstance(kept.get(name), list):
            kept[name] = kept[name][:SHOWN]
    return ExpectationValidationResult(
        success=bool(outcome.success),
        expectation_config=outcome.expectation_config,
        result=_plain(kept),
        exception_info=_plain(outcome.exception_info),
    )


def _plain(value: Any) -> Any:
    """Make values what the templates can take: they know no NumPy numbers and escape nothing."""
    if isinstance(value, str):
        return html.escape(value)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
