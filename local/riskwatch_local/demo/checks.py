"""The checks of the demo: each compares figures that were counted in different places."""

from __future__ import annotations

from typing import TYPE_CHECKING

from riskwatch_local.demo import values

if TYPE_CHECKING:
    from riskwatch_local.demo.summary import Figures


def loop(figures: Figures) -> dict[str, bool]:
    """Return the checks that need only the figures of the stages."""
    rows, stream = figures["rows"], figures["stream"]
    of_export, of_stream = figures["values"], stream["values"]
    return {
        "rows exported are validated or quarantined": 0 < rows["exported"] == rows["validated"] + rows["quarantined"],
        "values exported are kept or refused": values.adds_up(of_export),
        "five candidates": len(figures["candidates"]) == 5,
        "self-test without difference": figures["promoted"]["selftest"].endswith(" 0 differences"),
        "rows sent are labelled or quarantined": 0 < stream["sent"] == stream["labelled"] + stream["quarantined"],
        "values sent are kept or refused": values.adds_up(of_stream),
        "labelled rows are compacted": figures["watch"]["compacted_rows"] == stream["labelled"],
        "an alert arrived": figures["alerts"]["messages"] > 0,
    }
