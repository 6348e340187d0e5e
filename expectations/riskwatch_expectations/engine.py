"""Great Expectations, driven: one context for all the tables of a validation, and what its results say."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


class Engine:
    """Runs suites over frames in memory; `results` keeps every result, for the page about the validation."""

    def __init__(self) -> None:
        # In a process that has loaded Airflow, importing Great Expectations writes hundreds of INFO lines into the
        # task's log, most of them from the second module, which sets a level of its own.
        for name in ("great_expectations", "great_expectations._docs_decorators"):
            logging.getLogger(name).setLevel(logging.WARNING)
        os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
        import great_expectations as gx

        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False}
        self._source = context.data_sources.add_pandas("metrics")
        self.results: list[Any] = []

    def run(self, frame: pd.DataFrame, suite: Any) -> list[Any]:
        """Return the results of a suite over a frame with a range index, in the suite's order."""
        asset = self._source.add_dataframe_asset(suite.name)
        batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame})
        # Batch.validate stores nothing, which a result holding a NumPy value would not survive.
        results = list(batch.validate(suite, result_format={"result_format": "COMPLETE"}).results)
        self.results += results
        return results


def raised(result: Any) -> str | None:
    """Return the message of the exception that kept an expectation from being evaluated, None where there was none."""
    information = result.exception_info or {}
    entries = [information] if "raised_exception" in information else list(information.values())
    return next((str(entry["exception_message"]) for entry in entries if entry.get("raised_exception")), None)


def title(result: Any) -> str:
    """Name an expectation and its column."""
    config = result.expectation_config
    column = config.kwargs.get("column")
    return f"{config.type}({column})" if column else str(config.type)


def observed(result: Any) -> str:
    """Say what was seen where an expectation failed."""
    return raised(result) or f"observed {result.result.get('observed_value')}"


def meta(result: Any) -> dict[str, Any]:
    """Return what the suite noted beside an expectation."""
    return dict(result.expectation_config.meta or {})


def places(result: Any) -> list[int]:
    """Return the positions of the rows that failed a row-level expectation."""
    return [int(place) for place in result.result["unexpected_index_list"]]
