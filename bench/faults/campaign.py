"""The order of the faults, what a run does not cover, and the accounts at the end."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from bench.faults import clocks, components, items, objects, outage, refusals, release, streaming
from bench.faults.accounts import HELD, listed_episodes, undelivered
from bench.faults.outcome import Healing, Outcome, Totals
from bench.faults.world import NotHealedError
from riskwatch_lambda.episodes.episode import SENT
from riskwatch_ml.core import settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.faults.world import World

    Fault = Callable[[World], list[Outcome]]


def _started(_: World) -> list[Outcome]:
    """Stand for a fault of `BEGUN`: its outcome comes later."""
    return []


# These heal while the faults after them happen: each is begun, and returns the wait for its outcomes.
BEGUN: dict[str, Callable[[World], Callable[[], list[Outcome]]]] = {
    "scheduler": components.scheduler_and_tasks,
    "seen": objects.last_seen,
}
ORDER: dict[str, Fault] = {
    "scheduler": _started,
    "items": items.damaged_items,
    "workers": streaming.killed_workers,
    "compactions": streaming.two_compactions,
    "export-task": components.export_task,
    "duplicates": streaming.duplicates,
    "hostile": streaming.hostile,
    "bomb": streaming.day_bomb,
    "watermark": objects.watermark,
    "arrived": objects.arrived_objects,
    "labelled": objects.labelled_hour,
    "validated": objects.validated_hour,
    "ledger": objects.ledger_entry,
    "seen": _started,
    "inventory": objects.inventory,
    "report": objects.watch_report,
    "artifacts": objects.hostile_artifacts,
    "second-demo": refusals.second_demo,
    "small-disk": refusals.small_disk,
    "backfill": refusals.backfill,
    "release": release.release_task,
    "mlflow": release.mlflow_in_release,
    "mlflow-before": release.mlflow_before_release,
    "outage": outage.stalled_aws,
    "clocks": clocks.wrong_clocks,
    "api-server": components.api_server,
    "idle": components.idle_components,
    "triggers": refusals.many_triggers,
}
NOT_COVERED = {
    "F5, with MLflow down for 45 s": "the demo restarts MLflow after two seconds, so it is down as long as it starts",
    "F8, with the triggerer down for 3 min": "the demo restarts it after two seconds",
    "F11": "part of F10: watch_model is one of the runs that the stall meets",
    "F37 disk filled during a training": "a full disk also stops the embedded AWS and Airflow's database, "
    "which end the demo and with it the other faults",
    "F38 scheduler under libfaketime": "the scheduler dies of the tool (EINVAL); F33 moves the clock of the stream",
    "kill -9 of the embedded AWS": "its state is in memory by design; tests/e2e/test_airflow_faults.py covers it",
    "a run cleared in its middle, failures of SNS": "no fault of the table; tests/faults has SNS failures",
}
# The training of the killed scheduler promotes its model: only then may another one be promoted.
AFTER_BEGUN = ("release", "mlflow", "mlflow-before", "outage")
ARRIVAL_S = 120.0
TOLD_S = 360.0  # a page that was claimed and not sent is sent again by the first tick after five minutes


def run(world: World, names: list[str], report: Callable[[Outcome], None]) -> list[Outcome]:
    """Cause the faults of these names in their order; `report` gets each outcome when it is known."""
    outcomes: list[Outcome] = []
    waiting: list[Future[list[Outcome]]] = []

    def add(found: list[Outcome]) -> None:
        outcomes.extend(found)
        for outcome in found:
            report(outcome)

    with ThreadPoolExecutor(len(BEGUN), thread_name_prefix="heals") as pool:
        for name in names:
            if world.died:
                break
            add(_healed(waiting, wait=name in AFTER_BEGUN))
            if name in BEGUN:
                waiting.append(pool.submit(_guarded, name, _begin(name, world)))
            else:
                add(_guarded(name, partial(ORDER[name], world)))
        add(_healed(waiting, wait=True))
    if world.died:
        add([Outcome("the demo", "during the campaign", Healing.NOT, 0.0, str(world.died[0]))])
    return outcomes


def _healed(waiting: list[Future[list[Outcome]]], *, wait: bool) -> list[Outcome]:
    """Take the outcomes that are known out of those that are waited for, or with `wait` all of them."""
    known = [item for item in waiting if wait or item.done()]
    waiting[:] = [item for item in waiting if item not in known]
    return [outcome for item in known for outcome in item.result()]


def _begin(name: str, world: World) -> Callable[[], list[Outcome]]:
    """Begin a fault and return the wait for its outcomes, which raises the error of a failed begin."""
    try:
        return BEGUN[name](world)
    except Exception as error:  # the wait says what failed
        raised = error

        def failed() -> list[Outcome]:
            raise raised

        return failed


def _guarded(name: str, fault: Callable[[], list[Outcome]]) -> list[Outcome]:
    """Return the outcomes of a fault; an error, such as a limit that was reached, is one."""
    began = time.monotonic()
    try:
        return fault()
    except Exception as error:  # one fault must not hide what the others do
        message = f"{type(error).__name__}: {error}"
        return [Outcome(name, "see the message", Healing.NOT, time.monotonic() - began, message)]


def settle(world: World) -> Totals:
    """Wait for what is under way, compact once more, and return the accounts."""
    from riskwatch_airflow.tasks import watch

    wanted = world.sent | clocks.fleet_rows(world)
    missing = world.wait_labelled(wanted, ARRIVAL_S)
    watch.compact()
    world.rows.update()
    labelled = {row for row in wanted if row in world.rows.labelled}
    table = world.rows.in_table()
    announced = _announced(world)
    episodes = listed_episodes(settings.load().table)
    paged = [episode for episode in episodes if episode.notified == SENT]
    lost = undelivered(episodes, announced)
    repeated = sum(count - 1 for count in world.messages.opened.values())
    return Totals(
        sent=len(wanted),
        labelled=len(labelled),
        quarantined=len(wanted - labelled - missing),
        missing=len(missing),
        in_table=sum(row in table for row in labelled),
        twice=sum(count > 1 for count in table.values()),
        episodes=len(paged),
        undelivered=max(0, len(lost) - world.messages.more),
        repeated=repeated,
        held=sum(episode.notified in HELD for episode in episodes),
        crashes=world.crashes,
        examples=tuple(map(str, [*sorted(missing)[:3], *lost[:3]])),
    )


def _announced(world: World) -> set[str]:
    """Return the episodes that messages announced, after waiting for those that are paged and not there yet."""
    before = {f"{alert['instance_id']}@{alert['since']}" for alert in world.demo.summary["alerts"]["list"]}
    table = settings.load().table

    def is_complete() -> bool:
        world.messages.update()
        listed = listed_episodes(table)
        pending = [episode for episode in listed if episode.notified == "pending"]
        return not pending and not undelivered(listed, before | set(world.messages.opened))

    with contextlib.suppress(NotHealedError):
        world.wait("all messages", is_complete, TOLD_S, 1.0)
    return before | set(world.messages.opened)
