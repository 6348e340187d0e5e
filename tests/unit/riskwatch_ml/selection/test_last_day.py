"""The comparison of a challenger with the champion on the newest day."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from riskwatch_ml.features.left_out import PastEpisode
from riskwatch_ml.model.fit import Recipe
from riskwatch_ml.model.fleet_model import FleetModel
from riskwatch_ml.selection import last_day
from riskwatch_ml.selection.candidate import fit_candidate
from riskwatch_ml.selection.last_day import LastDay
from tests.support.fleets import CATALOGUE, INVENTORY, rows

HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def fleet():
    return rows()


@pytest.fixture(scope="module")
def champion(fleet):
    """A model of the first two days."""
    return _fitted(fleet[fleet["timestamp"] < "2026-11-03"])


def _fitted(history):
    fitted = fit_candidate(history, CATALOGUE, INVENTORY, Recipe("kmeans", level={"clusters": 3}), "t")
    return FleetModel.load(fitted.document, fitted.arrays)


def _disturbed(fleet, hours, instance="web-1"):
    """Four times the latency of an instance in the newest hours."""
    end = fleet["timestamp"].max()
    hit = (fleet["instance_id"] == instance) & (fleet["timestamp"] > end - pd.Timedelta(hours=hours))
    return fleet.assign(latency_ms=np.where(hit, fleet["latency_ms"] * 4, fleet["latency_ms"]))


def _compare(champion, challenger, fleet, open_since=None, opened_by=()):
    end_ms = int(fleet["timestamp"].max().timestamp() * 1000) + 300_000
    opened = {name: PastEpisode(name, ms, True, opened_by=opened_by) for name, ms in (open_since or {}).items()}
    return last_day.compare(champion, challenger, fleet, INVENTORY, opened, end_ms)


def test_a_model_compared_with_itself_changes_nothing(champion, fleet):
    found = _compare(champion, champion, _disturbed(fleet, 6), {"web-1": 0})
    assert (found.level_changes, found.after, found.closes, found.ask) == (0.0, found.before, (), "")


@pytest.mark.parametrize("began_h", [6, 30], ids=["opened in the day", "opened before the day"])
def test_a_challenger_that_learned_an_open_episode_asks_and_names_it(champion, fleet, began_h):
    # GIVEN an incident that goes on, and a challenger fitted to all its rows
    incident = _disturbed(fleet, began_h)
    challenger = _fitted(incident[incident["timestamp"] >= "2026-11-02"])
    opened = {"web-1": int(incident["timestamp"].max().timestamp() * 1000) - began_h * HOUR_MS}

    # WHEN
    found = _compare(champion, challenger, incident, opened)

    # THEN
    assert found.closes == ("web-1",)
    assert "it would close the open episodes of web-1" in found.ask
    # AND without an open episode nothing is closed
    assert _compare(champion, challenger, incident).closes == ()


def test_rows_without_the_metric_that_opened_an_episode_close_it_under_no_model(champion, fleet):
    # GIVEN a challenger that finds an incident normal, and rows without the latency that opened it
    incident = _disturbed(fleet, 30)
    challenger = _fitted(incident[incident["timestamp"] >= "2026-11-02"])
    opened = {"web-1": int(incident["timestamp"].max().timestamp() * 1000) - 30 * HOUR_MS}
    assert _compare(champion, challenger, incident, opened, ("latency_ms",)).closes == ("web-1",)
    gone = incident.assign(latency_ms=np.where(incident["instance_id"] == "web-1", np.nan, incident["latency_ms"]))
    assert _compare(champion, challenger, gone, opened, ("latency_ms",)).closes == ()


def test_an_episode_that_is_meant_to_end_counts_for_neither_model(champion, fleet):
    # GIVEN an incident that only the champion pages for
    incident = _disturbed(fleet, 6)
    challenger = replace(champion, rule={**champion.rule, "paging_threshold": 1e9})
    end_ms = int(incident["timestamp"].max().timestamp() * 1000) + 300_000

    # WHEN the challenger has learned it, THEN neither opens an episode of it
    found = [
        last_day.compare(champion, challenger, incident, INVENTORY, {}, end_ms, learned)
        for learned in ((), ("web-1",), ("web-1", "web-2", "db-1"))
    ]
    assert found[0].before > found[1].before
    assert (found[2].before, found[2].after, found[2].ask) == (0, 0, "")


def test_an_episode_that_both_models_find_over_is_not_closed_by_the_challenger(champion, fleet):
    assert _compare(champion, _fitted(fleet), fleet, {"web-1": 0}).closes == ()


def test_the_episodes_that_each_model_opens_are_counted(champion, fleet):
    # GIVEN a model that never pages for a score, and an incident
    deaf = replace(champion, rule={**champion.rule, "paging_threshold": 1e9})
    found = _compare(deaf, champion, _disturbed(fleet, 6))
    assert (found.before, found.after >= 1, found.level_changes) == (0, True, 0.0)


@pytest.mark.parametrize(
    ("before", "after", "asks"),
    [(0, 5, False), (0, 6, True), (10, 15, False), (10, 16, True), (20, 10, False), (20, 9, True), (6, 0, True)],
)
def test_more_than_five_pages_and_half_of_them_is_a_change(before, after, asks):
    assert bool(LastDay(0.0, before, after).ask) is asks


def test_a_text_names_five_instances():
    names = tuple(f"i-{number}" for number in range(7))
    assert LastDay(0.0, 0, 0, names).ask == "it would close the open episodes of i-0, i-1, i-2, i-3, i-4 and 2 more"
