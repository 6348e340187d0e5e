"""A simulated fleet, labelled by the backtest and then by the function, batch by batch with a tick after each."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from riskwatch_lambda.model.document import Model, from_files
from riskwatch_local.demo import simulator
from riskwatch_ml.artifact import archive
from riskwatch_ml.backtest import replay as backtest
from riskwatch_ml.core import clock
from riskwatch_ml.schema import catalogue, metric_rows
from riskwatch_ml.streaming import packs as stream
from tests.support.world import DONE, World

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from riskwatch_lambda.alerting.budget import Limits
    from riskwatch_ml.backtest.result import Refresh
    from riskwatch_ml.schema.inventory import Instance

PERIOD_MS = 300_000
DAY_MS = 86_400_000
END = datetime(2026, 11, 22, tzinfo=UTC)
# From the end of a period until its rows are with the function.
LATE_MS = 240_000


@dataclass(frozen=True)
class Fleet:
    """Rows to learn from, rows to label, what the function keeps of these, and the inventory."""

    history: pd.DataFrame
    replay: pd.DataFrame
    possible: pd.DataFrame
    inventory: Mapping[str, Instance]


@dataclass(frozen=True)
class Backtested:
    """What the backtest labelled, and the models that served in it with the epoch ms from which they did."""

    rows: pd.DataFrame
    models: list[tuple[int, Model]]

    @property
    def alerts(self) -> set[tuple[str, int]]:
        """Instance and epoch ms of the rows that are alerts."""
        return _keys(self.rows[self.rows["alert"]])

    @property
    def openings(self) -> set[tuple[str, int]]:
        """Instance and epoch ms of each row that is an alert while the one before it is none."""
        before = self.rows.sort_values("timestamp").groupby("instance_id")["alert"].shift(fill_value=False)
        return _keys(self.rows[self.rows["alert"] & ~before.astype(bool)])


def simulated(learn_days: int, replay_days: int, instances: Collection[str] | None = None, holes: float = 0.0) -> Fleet:
    """Simulate a fleet; what is physically impossible is among the rows to label, for the function to refuse.

    `holes` is the share of values of the rows to label that are missing.
    """
    made = simulator.simulate(END, days=learn_days + replay_days, stream_hours=24 * replay_days)
    rows = made.rows if instances is None else made.rows[made.rows["instance_id"].isin(instances)]
    metrics = catalogue.load()
    features = list(metrics.names)
    cut = pd.Timestamp(END - timedelta(days=replay_days))
    missing = np.random.default_rng(5).random((len(rows), len(features))) < holes
    missing &= (rows["timestamp"] >= cut).to_numpy()[:, None]
    rows = rows.assign(**rows[features].mask(missing))
    values = rows[features].to_numpy()
    impossible = metric_rows.find_impossible(values, metrics)
    kept = rows.assign(**rows[features].mask(impossible))
    possible = kept[~metric_rows.find_refused_rows(values, impossible)]
    history, replay, clean = (
        part.reset_index(drop=True)
        for part in (
            possible[possible["timestamp"] < cut],
            rows[rows["timestamp"] >= cut],
            possible[possible["timestamp"] >= cut],
        )
    )
    return Fleet(history, replay, clean, made.inventory)


def backtested(fleet: Fleet, refit_hours: float) -> Backtested:
    """Backtest the fleet and keep the models that it fits."""
    fits: list[Any] = []
    with pytest.MonkeyPatch.context() as patched:
        fit = backtest.fit_model
        patched.setattr(backtest, "fit_model", lambda *given: fits.append(fit(*given)) or fits[-1])
        result = backtest.backtest(
            fleet.history, fleet.possible, family="kmeans", inventory=fleet.inventory, refit_hours=refit_hours
        )
    models = [(refresh.ms, _served(each, refresh)) for refresh, each in zip(result.refreshes, fits, strict=True)]
    return Backtested(result.rows, models)


def labelled(fleet: Fleet, models: list[tuple[int, Model]], limits: Limits) -> World:
    """Send the rows through the function as they would have come: a batch a period, and a tick after it.

    Then nothing more comes for some days: what is open is given up, and the digests tell the rest.
    """
    model = models[0][1]
    world = World(model, limits)
    known = catalogue.load().by_name
    metrics = catalogue.Catalogue(tuple(known[name] for name in model.row_schema.features))
    start = fleet.replay["timestamp"].min().to_pydatetime()
    rows = pd.concat([fleet.history, fleet.replay], ignore_index=True)
    packer = stream.Packer(rows, fleet.inventory, model.row_schema.context_rows, model.max_gap_s, metrics)
    period = timedelta(milliseconds=PERIOD_MS)
    while start < END:
        moment = clock.epoch_ms(start)
        world.model = next(model for since, model in reversed(models) if since <= moment)
        wall = moment + PERIOD_MS + LATE_MS
        packs = [json.loads(pack.data) for packs in packer.packs(start, start + period) for pack in packs]
        if packs:
            # The rows arrive live, not as a history.
            world.wall = wall
            assert world.send(*packs, now=wall) == DONE
        world.tick(moment + PERIOD_MS, [], wall=wall + 5_000)
        start += period
    for days in range(1, 5):
        world.tick(clock.epoch_ms(END) + days * DAY_MS + 1, [])
    return world


def lines(world: World, part: str) -> Counter[str]:
    """Count the lines that each episode has in a part of all messages."""
    return Counter(each["episode_id"] for message in world.sns.messages for each in message[part])


def check(fleet: Fleet, before: Backtested, world: World) -> None:
    """Assert that the function opened what the backtest opened, and told each episode once, and its end once."""
    listed = world.dynamodb.listed()
    assert {(item["instance_id"], int(item["since_ms"])) for item in listed} == before.openings
    labels = world.s3.lines("labelled/")
    alerts = {(row["instance_id"], clock.epoch_ms(clock.parse(row["timestamp"]))) for row in labels if row["alert"]}
    assert alerts == before.alerts
    assert len(labels) == len(fleet.possible)
    assert len(labels) + len(world.s3.lines("quarantine/")) == len(fleet.replay)
    once = dict.fromkeys((item["episode_id"] for item in listed), 1)
    assert lines(world, "opened") == once
    # An end at which only a new model finds the behaviour normal has another name.
    assert lines(world, "resolved") + lines(world, "new_normal") == once
    assert not [item for item in listed if "unfinished" in item]


def _keys(rows: pd.DataFrame) -> set[tuple[str, int]]:
    moments = rows["timestamp"].astype("datetime64[ms, UTC]").astype("int64")
    return set(zip(rows["instance_id"].astype(str), moments.tolist(), strict=True))


def disturbed(days: tuple[float, float], start_h: float, hours: float, end: datetime) -> Fleet:
    """Give days to learn from and days to label, without incidents but one: four times the latency of two web servers.

    It begins ``start_h`` hours after the days to learn from and lasts ``hours``. The days to label end at ``end``.
    """
    cut = end - timedelta(days=days[1])
    start = cut - timedelta(days=days[0])
    fleet = simulator.simulate(start, days=1, stream_hours=1)
    rows = simulator.continuation(fleet, start, 24 * sum(days))
    rows = rows[rows["instance_id"].isin(("web-1", "web-2", "database-1"))]
    began = cut + timedelta(hours=start_h)
    hit = rows["instance_id"].str.startswith("web-")
    hit &= rows["timestamp"].between(began, began + timedelta(hours=hours), inclusive="left")
    rows = rows.assign(latency_ms=np.where(hit, rows["latency_ms"] * 4, rows["latency_ms"]))
    history, replay = (
        rows[part].reset_index(drop=True) for part in (rows["timestamp"] < cut, rows["timestamp"] >= cut)
    )
    return Fleet(history, replay, replay, fleet.inventory)


def _served(fitted: Any, refresh: Refresh) -> Model:
    """Load a fitted model as the function does, through its artifact."""
    learned = [
        {"episode_id": f"{each.instance_id}@{clock.iso(each.since_ms)}", "changes": []} for each in refresh.new_normals
    ]
    facts = {
        "model_id": f"m-{refresh.ms}",
        "new_normals": learned,
        "trained_at": "2026-11-22T00:00:00.000Z",
        "training_id": "t",
        "run_id": None,
    }
    reference = {"rows": 0, "levels": {}, "unusual": 0.0, "alerts_per_instance_day": 0.0}
    golden = {"records": [], "expected": []}
    document = {**fitted.document, **facts, "reference": reference, "golden": golden}
    return from_files(archive.model_files(archive.pack(document, fitted.arrays)))
