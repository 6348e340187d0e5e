"""Output of the commands: lines, counts and the progress bar."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from collections.abc import Mapping

console = Console()


def show(text: str) -> None:
    """Print a line literally: no markup, no colours, no line breaks."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def show_counts(counts: Mapping[str, int], what: str = "") -> None:
    """Print counts by reason, the largest first; `what` names the counted things."""
    for reason, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        show(f"  {what} {count:,}: {reason}" if what else f"  {count:,}: {reason}")


def bar() -> Progress:
    """Return a progress bar with the work done, the total and the remaining time.

    It appears on terminals only, and disappears when the work is done.
    """
    columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
