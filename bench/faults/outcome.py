"""What became of a fault, and what of it makes the campaign fail."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

SHOWN = 150


class Healing(StrEnum):
    """How the system came back: by itself, because the demo restarted a component, by a person, or not at all."""

    ITSELF = "by itself"
    RESTART = "by restart"
    PERSON = "by a person"
    REFUSED = "refused"
    NOT = "not healed"


@dataclass(frozen=True)
class Outcome:
    """The result of one fault.

    `seconds` is the time from the fault to the end of its effect. `lost` counts what `unit` names and `of` is the
    number that was at risk; `doubled` counts rows that the table has twice. `message` is the text for operators.
    `is_gone` says that the content of an object was destroyed, which only a person can restore.
    """

    fault: str
    moment: str
    healing: Healing
    seconds: float
    message: str
    lost: int = 0
    of: int | None = None
    unit: str = "rows"
    is_gone: bool = False

    @property
    def lost_text(self) -> str:
        """The loss in words, for example "0 of 48 rows"."""
        return f"{self.lost}{'' if self.of is None else f' of {self.of:,}'} {self.unit}"

    @property
    def healed_text(self) -> str:
        """How and how fast it healed."""
        restored = ", the object was restored" if self.is_gone and self.healing is Healing.PERSON else ""
        return f"{self.healing}{restored}, {self.seconds:.1f} s"

    def line(self) -> str:
        """Return the line of the fault."""
        parts = (self.fault, self.moment, self.healed_text, f"{self.lost_text} lost", one_line(self.message))
        return " | ".join(parts)


@dataclass(frozen=True)
class Totals:
    """The accounts of the whole campaign.

    Rows: `sent` by identity, `labelled` and `quarantined` of them, `missing` with neither, `in_table` of the labelled
    ones, `twice` in the table. Messages: `episodes` with a sent message, `undelivered` of them that did not arrive,
    `repeated` announcements, and `held` episodes that by design wait for the daily summary, a cool-down or a window.
    `crashes` counts kills and stalls of the function and the services that it calls.
    """

    sent: int
    labelled: int
    quarantined: int
    missing: int
    in_table: int
    twice: int
    episodes: int
    undelivered: int
    repeated: int
    held: int
    crashes: int
    examples: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the accounts in words."""
        return [
            f"rows: {self.sent:,} sent = {self.labelled:,} labelled + {self.quarantined:,} quarantined + "
            f"{self.missing:,} missing; {self.in_table:,} of the labelled rows are in the table, {self.twice:,} twice",
            f"messages: {self.episodes} episodes were paged, {self.undelivered} of them did not arrive, "
            f"{self.repeated} arrived twice in {self.crashes} crashes; {self.held} episodes are held back by design",
            *(f"  for example {example}" for example in self.examples),
        ]


def one_line(text: str) -> str:
    """Return a text on one line, cut to what a table can show."""
    flat = " ".join(text.split())
    return flat if len(flat) <= SHOWN else f"{flat[: SHOWN - 1]}…"


def table(outcomes: Sequence[Outcome]) -> Table:
    """Return the outcomes as a table."""
    result = Table("fault", "moment", "healed", "lost", "message", title="Faults", title_justify="left")
    for item in outcomes:
        result.add_row(item.fault, item.moment, item.healed_text, item.lost_text, one_line(item.message))
    return result


def problems(outcomes: Sequence[Outcome], totals: Totals | None) -> list[str]:
    """Return a line for each reason why the campaign fails."""
    lines = [f"{item.fault}: {item.lost_text} were lost" for item in outcomes if item.lost]
    lines += [f"{item.fault}: {one_line(item.message)}" for item in outcomes if item.healing is Healing.NOT]
    by_hand = (item for item in outcomes if item.healing is Healing.PERSON and not item.is_gone)
    lines += [f"{item.fault}: a person was needed" for item in by_hand]
    if totals is None:
        return [*lines, "the accounts could not be made"]
    if totals.missing:
        lines.append(f"{totals.missing:,} rows are neither labelled nor quarantined")
    if totals.in_table != totals.labelled or totals.twice:
        lines.append(
            f"the table has {totals.in_table:,} of {totals.labelled:,} labelled rows, {totals.twice:,} of them twice"
        )
    if totals.undelivered:
        lines.append(f"{totals.undelivered} messages did not arrive")
    if totals.repeated > totals.crashes:
        lines.append(f"{totals.repeated} messages came twice in {totals.crashes} crashes")
    return lines
