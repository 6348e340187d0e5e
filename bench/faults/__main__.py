"""The command `python -m bench.faults`; see the package."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path

import bench.faults
from bench.faults import campaign, outcome
from bench.faults.world import Terminal, hold
from bench.live_demo import live_demo, state_folder

WIDTH = 200  # of the table in a file


def main() -> None:
    """Run the campaign and print its outcomes, its accounts and its problems."""
    parser = argparse.ArgumentParser(
        description=bench.faults.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", help="the names of the faults, separated by commas")
    parser.add_argument("--list", action="store_true", help="list the names of the faults")
    parser.add_argument("--state", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    names = list(campaign.ORDER)
    if options.list:
        print("\n".join(names))
        return
    if options.only:
        chosen = options.only.split(",")
        if unknown := sorted(set(chosen) - set(names)):
            parser.error(f"unknown: {', '.join(unknown)}; --list names the faults")
        names = [name for name in names if name in chosen]
    # These signals end the demo of the campaign, too.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    sys.exit(_run(names, options.state, options.json))


def _run(names: list[str], state: Path | None, path: Path | None) -> int:
    terminal = Terminal(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDTH)
    with state_folder(state) as folder, live_demo(folder, terminal) as live, hold(live, terminal) as world:
        began = time.monotonic()
        terminal.print("\nfault | moment | healed | lost | message", markup=False)
        outcomes = campaign.run(world, names, lambda item: terminal.print(item.line(), markup=False))
        totals = None if world.died else campaign.settle(world)
        minutes = (time.monotonic() - began) / 60
    terminal.print(outcome.table(outcomes))
    for line in totals.lines() if totals else ():
        terminal.print(line, markup=False)
    terminal.print(f"\nThe campaign took {minutes:.1f} min. Not in this run:")
    for fault, why in campaign.NOT_COVERED.items():
        terminal.print(f"  {fault}: {why}", markup=False)
    found = outcome.problems(outcomes, totals)
    for line in found:
        terminal.print(f"faults: {line}", markup=False)
    if path:
        document = {
            "minutes": minutes,
            "outcomes": [asdict(item) for item in outcomes],
            "totals": asdict(totals) if totals else None,
            "problems": found,
        }
        path.write_text(json.dumps(document, indent=1), encoding="utf-8")
    return 1 if found else 0


if __name__ == "__main__":
    main()
