"""The summary of the demo, as a file and as tables for the terminal.

Figures count what has arrived in S3 and in the alert queue.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rich.table import Table

from riskwatch_local.demo import values

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console

    from riskwatch_local.demo.figures import Candidate, KindFigures, RowCounts, Summary


def write(path: Path, summary: Summary) -> None:
    """Write the summary as JSON; readers never see a partial file."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(summary, indent=2, default=str) + "\n", encoding="utf-8")
    part.replace(path)


def show(console: Console, summary: Summary) -> None:
    """Print the summary as tables."""
    console.print(_candidates(summary["candidates"]))
    for kind, figures in list(summary["kinds"].items())[1:]:
        console.print(f"{kind}: {figures['family']}", highlight=False)
    table = Table("Riskwatch", summary["source"], title="Summary", title_justify="left", min_width=72)
    for name, text in _lines(summary):
        table.add_row(name, text)
    console.print(table)
    for name, address in summary["addresses"].items():
        console.print(f"{name}: {address}", soft_wrap=True)


def _candidates(candidates: Sequence[Candidate]) -> Table:
    columns = {
        "VUS-PR (injected)": "injected_vus_pr",
        "pages a day": "alerts_per_instance_day",
        "silhouette": "silhouette",
        "fidelity": "fidelity",
    }
    table = Table("family", *columns, "outcome", title="Candidates", title_justify="left", min_width=72)
    for row in candidates:
        values = [f"{row['figures'][name]:.3f}" if name in row["figures"] else "" for name in columns.values()]
        table.add_row(row["family"], *values, row["verdict"])
    return table


def _lines(summary: Summary) -> list[tuple[str, str]]:
    stream, incidents = summary["stream"], summary["incidents"]
    lines = [
        ("rows exported", _exported(summary["rows"])),
        ("values exported", values.line(summary["values"])),
        (
            "promoted",
            "version {version}: {family}, digest {digest:.12}, self-test {selftest}".format(**summary["promoted"]),
        ),
        ("rows streamed", f"{stream['sent']} = {stream['labelled']} labelled + {stream['quarantined']} quarantined"),
        ("values streamed", values.line(stream["values"])),
        ("streaming run", "{run_s:.0f} s, {records} records in {calls} calls".format(**stream)),
        ("risk", ", ".join(f"{name} {count}" for name, count in stream["risk"].items())),
        ("alerts received", f"{summary['alerts']['messages']} messages, {summary['alerts']['episodes']} episodes"),
    ]
    if len(summary["kinds"]) > 1:
        lines += [(kind, _of_kind(figures)) for kind, figures in summary["kinds"].items()]
    if incidents:
        lines += [
            ("incidents", "{made} made, {met} met, {missed} missed".format(**incidents)),
            *[
                ("", f"{'met   ' if item['met'] else 'missed'} {item['kind']} on {item['instance_id']}")
                for item in incidents["list"]
            ],
            ("false alerts", f"{incidents['false_alerts']}"),
        ]
    delay = summary["delay"]
    if delay:
        text = (
            "{datapoint_to_message_p95_s:.0f} s (p95) = settle delay {settle_s:.0f} + wait for the schedule, at most "
            "{schedule_wait_max_s:.0f} + from run to stream {run_to_put_p95_s:.1f} + from stream to message "
            "{put_to_message_p95_s:.1f}"
        )
        lines.append(("datapoint to message", text.format(**delay)))
    watch = summary["watch"]
    lines.append(("label drift", f"{watch['distance']:.3f} (limit {watch['limit']}), violated: {watch['violated']}"))
    return lines


def _exported(rows: RowCounts) -> str:
    return "{exported} = {validated} validated + {quarantined} quarantined".format(**rows)


def _of_kind(figures: KindFigures) -> str:
    """Return the line of one kind."""
    text = (
        f"exported {_exported(figures['rows'])}; streamed "
        "{sent} = {labelled} labelled + {quarantined} quarantined; ".format(**figures["stream"])
    )
    incidents = figures["incidents"]
    met = "" if incidents is None else "; {met} of {made} incidents met".format(**incidents)
    return f"{text}{figures['episodes']} episodes{met}"
