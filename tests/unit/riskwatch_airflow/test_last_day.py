"""The comparison of a candidate with the champion, by artifacts and validated rows in the bucket."""

from dataclasses import asdict, replace
from datetime import timedelta

import numpy as np
import pytest

from riskwatch_airflow import last_day
from riskwatch_ml.artifact import archive
from riskwatch_ml.core import clock, settings
from riskwatch_ml.model.fit import Recipe
from riskwatch_ml.selection.candidate import fit_candidate
from tests.support import episodes
from tests.support.fleets import CATALOGUE, INVENTORY, rows
from tests.support.trainings import CHAMPION, training

BEGAN_H = 6


@pytest.fixture(scope="module")
def incident():
    """Three days of a fleet, with four times the latency of web-1 in the newest six hours."""
    fleet = rows()
    hit = (fleet["instance_id"] == "web-1") & (fleet["timestamp"] >= _end(fleet) - timedelta(hours=BEGAN_H))
    return fleet.assign(latency_ms=np.where(hit, fleet["latency_ms"] * 4, fleet["latency_ms"]))


@pytest.fixture(scope="module")
def artifacts(incident):
    """The zip of a model of the first two days, and of one of the newest day."""
    parts = incident["timestamp"] < "2026-11-03", incident["timestamp"] >= "2026-11-02T18:00Z"
    fits = [
        fit_candidate(incident[part], CATALOGUE, INVENTORY, Recipe("kmeans", level={"clusters": 3}), "t")
        for part in parts
    ]
    return [archive.pack(fitted.document, fitted.arrays) for fitted in fits]


def _end(fleet):
    return fleet["timestamp"].max().to_pydatetime() + timedelta(minutes=5)


@pytest.fixture
def compared(aws, incident, artifacts):
    """Compares the second model with the first, whose artifact is kept where releases keep it."""
    champion, challenger = artifacts
    checksum = archive.checksum(champion)
    aws.store.put_bytes(f"artifacts/{checksum}.zip", champion)
    end = _end(incident)
    aws.store.write_hours("validated", incident, end - timedelta(days=3), end)
    inventory = {"instances": {name: {"role": item.role} for name, item in INVENTORY.items()}}
    aws.store.put_json("config/inventory.json", inventory)
    serving = replace(CHAMPION, digest=checksum)

    def compare(zip_bytes=challenger, **more):
        plan = training("refresh", serving, until=clock.iso(end), **more)
        return last_day.compared(settings.load(), aws.store, plan, zip_bytes)

    return compare


def test_a_candidate_that_would_close_an_open_episode_asks(aws, compared, incident):
    # GIVEN the episode of web-1
    episode = episodes.write(aws.dynamodb, "web-1", _end(incident) - timedelta(hours=BEGAN_H))
    # WHEN / THEN
    ask, comparison = compared()
    assert ask.startswith("it would close the open episodes of web-1")
    assert comparison.closes == ("web-1",)
    # AND one that the candidate learned as normal is meant to end
    ask, comparison = compared(new_normals=[{"episode_id": episode.episode_id, "changes": []}])
    assert comparison.closes == ()


def test_the_champion_itself_asks_for_nothing(compared, artifacts, aws, incident):
    episodes.write(aws.dynamodb, "web-1", _end(incident) - timedelta(hours=BEGAN_H))
    ask, comparison = compared(artifacts[0])
    assert (ask, asdict(comparison)["level_changes"], comparison.closes) == ("", 0.0, ())


def test_without_a_champion_there_is_nothing_to_compare(aws):
    assert last_day.compared(settings.load(), aws.store, training("contest"), b"") == ("", None)


def test_a_champion_that_cannot_be_read_needs_an_approval(aws):
    aws.store.put_bytes(f"artifacts/{CHAMPION.digest}.zip", b"other")
    ask, comparison = last_day.compared(settings.load(), aws.store, training("refresh", CHAMPION), b"")
    assert (ask, comparison) == ("the model in service cannot be read, so the last 24 hours are not compared", None)
