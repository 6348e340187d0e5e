"""Adapter to Great Expectations: run suites over data frames and read the results."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    import pandas as pd


class ExpectationMeta(TypedDict, total=False):
    """The notes of a suite on an expectation.

    `reason` is the text for the quarantine, `metric` the metric of a value. `broken` says why the whole table is
    refused. `check` names the kind of a finding, `finding` is the template of its text, filled from the columns of the
    row that fails.
    """

    reason: str
    metric: str
    broken: str
    check: str
    finding: str


def load_library() -> Any:
    """Import Great Expectations quietly and return it.

    In a process that has loaded Airflow, its import writes hundreds of INFO lines to the log of the task. Most come
    from the second module, which sets its own level.
    """
    for name in ("great_expectations", "great_expectations._docs_decorators"):
        logging.getLogger(name).setLevel(logging.WARNING)
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations as gx

    return gx


class Engine:
    """Runner of suites over data frames in memory.

    One context serves all tables of a validation. `results` collects every result, for the Data Docs.
    """

    def __init__(self) -> None:
        gx = load_library()
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False}
        self._source = context.data_sources.add_pandas("metrics")
        self.results: list[Any] = []

    def run(self, frame: pd.DataFrame, suite: Any) -> list[Any]:
        """Return the results of a suite over a frame with a range index, in suite order."""
        asset = self._source.add_dataframe_asset(suite.name)
        batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame})
        # Batch.validate stores nothing: storing fails for a result with a NumPy value.
        results = list(batch.validate(suite, result_format={"result_format": "COMPLETE"}).results)
        self.results += results
        return results


def raised(result: Any) -> str | None:
    """Return the message of the exception during an evaluation; None without one."""
    information = result.exception_info or {}
    entries = [information] if "raised_exception" in information else list(information.values())
    return next((str(entry["exception_message"]) for entry in entries if entry.get("raised_exception")), None)


def title(result: Any) -> str:
    """Return the type of an expectation and its column."""
    config = result.expectation_config
    column = config.kwargs.get("column")
    return f"{config.type}({column})" if column else str(config.type)


def observed(result: Any) -> str:
    """Describe the observed value of a failed expectation."""
    return raised(result) or f"observed {result.result.get('observed_value')}"


def meta(result: Any) -> ExpectationMeta:
    """Return the notes of the suite on an expectation."""
    meta: ExpectationMeta | None = result.expectation_config.meta
    return meta or {}


def places(result: Any) -> list[int]:
    """Return the positions of the rows that failed a row-level expectation."""
    return [int(position) for position in result.result["unexpected_index_list"]]
