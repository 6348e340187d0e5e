"""The checks of the demo: each compares figures that were counted in different places."""

from __future__ import annotations

from typing import TYPE_CHECKING

from riskwatch_local.demo import values

if TYPE_CHECKING:
    from riskwatch_local.demo.figures import Figures, KindFigures, KindStream, RowCounts, StreamFigures


def loop(figures: Figures) -> dict[str, bool]:
    """Return the checks that need only the figures of the stages: of all kinds together, then of each of several."""
    stream, kinds = figures["stream"], figures["kinds"]
    results = {
        "rows exported are validated or quarantined": _are_validated(figures["rows"]),
        "values exported are kept or refused": values.adds_up(figures["values"]),
        "five candidates": len(figures["candidates"]) == 5,
        "self-test without difference": figures["promoted"]["selftest"].endswith(" 0 differences"),
        "rows sent are labelled or quarantined": _are_labelled(stream),
        "values sent are kept or refused": values.adds_up(stream["values"]),
        "labelled rows are compacted": figures["watch"]["compacted_rows"] == stream["labelled"],
        "an alert arrived": figures["alerts"]["messages"] > 0,
    }
    if len(kinds) > 1:
        results["every kind has a model in service"] = set(list(kinds)[1:]) <= set(figures["promoted"]["kinds"])
        results |= {f"{kind}: {name}": holds for kind, part in kinds.items() for name, holds in _of_kind(part).items()}
    return results


def _of_kind(figures: KindFigures) -> dict[str, bool]:
    return {
        "rows exported are validated or quarantined": _are_validated(figures["rows"]),
        "values exported are kept or refused": values.adds_up(figures["values"]),
        "rows sent are labelled or quarantined": _are_labelled(figures["stream"]),
        "values sent are kept or refused": values.adds_up(figures["stream"]["values"]),
    }


def _are_validated(rows: RowCounts) -> bool:
    return 0 < rows["exported"] == rows["validated"] + rows["quarantined"]


def _are_labelled(stream: StreamFigures | KindStream) -> bool:
    return stream["labelled"] > 0 and stream["sent"] == stream["labelled"] + stream["quarantined"]
