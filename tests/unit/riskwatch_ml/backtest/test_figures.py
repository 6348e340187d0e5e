"""The figures of a report: titles, legends, units and gaps."""

from dataclasses import replace

import numpy as np

from riskwatch_ml.backtest.episodes import episodes, incidents
from riskwatch_ml.backtest.figures import _around
from tests.unit.riskwatch_ml.backtest.test_report import MS, at, labelled, result


def test_a_picture_says_what_it_shows():
    # GIVEN a missed incident, another one, an episode, two models and a gap
    rows = labelled(at(96, 20), metrics=("a long metric name with a unit", "m1")).drop(index=range(60, 75))
    rows = rows.reset_index(drop=True)
    told, label = episodes(rows), at(len(rows), 30, 31, 40).astype(float)
    truth = incidents(rows, label)
    replay = result(rows, ("a long metric name with a unit", "m1"))
    replay.units["m1"] = "ms"
    replay.refreshes.append(replace(replay.refreshes[0], ms=MS + 3_600_000, paging_threshold=1.5))
    # WHEN
    figure = _around(replay, next(truth.itertuples()), "this incident", truth, told)
    # THEN
    score, first, second = figure.axes
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["1 = unusual", "paging threshold", "incident", "episode", "this incident"]
    assert figure.get_suptitle() == "a, 2026-11-04 02:30 UTC"
    assert second.get_xlabel() == "time (UTC)"
    assert {first.get_title(loc="left"), second.get_title(loc="left")} == {"a long metric name with a unit", "m1"}
    assert {first.get_ylabel(), second.get_ylabel()} == {"", "ms"}
    assert set(score.lines[2].get_ydata()) == {1.25, 1.5}
    assert np.isnan(np.asarray(score.lines[0].get_ydata(), float)).sum() == 1
    assert len(score.patches) == 4
