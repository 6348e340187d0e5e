import numpy as np
import pandas as pd
import pytest

from riskwatch_ml.backtest import report
from riskwatch_ml.backtest.inputs import BacktestError
from riskwatch_ml.backtest.replay import backtest
from riskwatch_ml.model.page_budget import PageBudget
from riskwatch_ml.schema.inventory import Instance
from riskwatch_ml.selection import guards

DAY = 288


def fleet(days, start="2026-11-01", names=("a", "b"), seed=0, columns=("m0", "m1", "m2", "m3")):
    rng = np.random.default_rng(seed)
    n = int(days * DAY)
    times = pd.date_range(start, periods=n, freq="5min", tz="UTC").as_unit("ms")
    wave = np.sin(np.arange(n) * 2 * np.pi / DAY)
    return pd.concat(
        [
            pd.DataFrame(
                {"instance_id": name, "timestamp": times} | {c: 10 + 3 * wave + rng.normal(0, 1, n) for c in columns}
            )
            for name in names
        ],
        ignore_index=True,
    )


@pytest.fixture(scope="module")
def history():
    return fleet(3)


@pytest.fixture(scope="module")
def replay():
    """Two days with an hour of trouble on the second day of one instance."""
    rows = fleet(2, start="2026-11-04", seed=1)
    rows.loc[400:411, ["m0", "m1"]] += 25
    return rows


@pytest.fixture(scope="module")
def result(history, replay):
    return backtest(history, replay, family="kmeans")


def test_every_replay_row_is_labelled_once(result, replay):
    assert list(result.rows.columns[:6]) == ["instance_id", "timestamp", "score", "alert", "risk", "level"]
    keys = ["instance_id", "timestamp"]
    assert result.rows[keys].equals(replay.sort_values(keys)[keys].reset_index(drop=True))
    assert np.isfinite(result.rows["score"]).all()
    assert (result.rows["risk"] == "Critical").tolist() == result.rows["alert"].tolist()
    assert len(result.refreshes) == 2


def test_trouble_is_met_and_quiet_rows_are_left_alone(result):
    rows = result.rows
    assert rows["alert"][400:412].all()
    *others, episode = (each for _, each in report.episodes(rows).sort_values("peak").iterrows())
    # Of 1,140 quiet rows the boundary lets a few through by a hair; which ones hangs on the last digits of prototypes.
    assert len(others) <= 10
    assert max(each["peak"] for each in others) < 1.2
    assert rows["alert"].sum() <= 12 + 24
    assert {reason["feature"] for reason in result.explanations[episode["first"]][:2]} == {"column_0", "column_1"}


def test_a_row_is_labelled_from_it_and_earlier_rows_only(result, history, replay):
    # GIVEN the same replay, cut at noon of its second day
    cut = replay[replay["timestamp"] < "2026-11-05T12:00:00Z"]
    # WHEN replayed / THEN what comes later changed nothing
    again = backtest(history, cut, family="kmeans").rows
    both = again.merge(result.rows, on=["instance_id", "timestamp"])
    assert len(both) == len(cut)
    assert both["score_x"].equals(both["score_y"])
    assert both["risk_x"].equals(both["risk_y"])


def test_a_new_instance_pages_only_after_a_day(history, replay):
    stranger = fleet(2, start="2026-11-04", names=("new",), seed=2)
    stranger.loc[100:110, ["m0", "m1"]] += 60
    stranger.loc[500:510, ["m2", "m3"]] += 60
    rows = backtest(history, pd.concat([replay, stranger]), family="kmeans", refit_hours=12).rows
    new = rows[rows["instance_id"] == "new"].reset_index(drop=True)
    assert not new["alert"][:288].any()
    assert new["alert"][500:511].all()


def test_a_new_instance_of_a_role_pages_in_the_replay_from_its_first_row_on(history, replay):
    # GIVEN a fleet of one role, and an instance that comes with the replay and is in trouble for half an hour
    inventory = {name: Instance(name, "web") for name in ("a", "b", "new")}
    stranger = fleet(2, start="2026-11-04", names=("new",), seed=2)
    stranger.loc[0:6, ["m0", "m1"]] += 60

    # WHEN it is replayed with its role, THEN that is an episode, and the rest of its first day is none
    rows = backtest(history, pd.concat([replay, stranger]), family="kmeans", inventory=inventory).rows
    new = rows[rows["instance_id"] == "new"].reset_index(drop=True)
    assert new["alert"][:7].all()
    assert new["alert"][9:288].mean() < 0.02


def test_auto_holds_a_contest_first(history, replay):
    found = backtest(history, replay, family="auto").refreshes
    assert found[0].contest is not None
    took_part = {*found[0].contest.figures, *found[0].contest.trials}
    assert took_part == {"kmeans", "dbscan", "ensemble", "hierarchical", "kmedoids"}
    assert found[1].contest is None
    assert found[1].family == found[0].family


def test_a_replay_that_no_family_may_serve_says_so(tmp_path, monkeypatch):
    # GIVEN guards that no family passes
    monkeypatch.setattr(guards, "GUARDS", [guards.Guard("prototypes", 0, 0, "{0:.0f} prototypes are too many")])
    still = [fleet(3).assign(m0=5.0, m1=5.0, m2=5.0, m3=5.0), fleet(2, "2026-11-04").assign(m0=5, m1=5, m2=5, m3=5)]
    # WHEN
    found = backtest(*still, family="auto")
    # THEN all are vetoed once, a fall-back labels every row, and the next contest is a week away
    assert [(refresh.family, refresh.serves) for refresh in found.refreshes] == [("kmeans", False)] * 2
    assert [refresh.contest is None for refresh in found.refreshes] == [False, True]
    assert found.rows["score"].notna().all()
    text = report.write(found, tmp_path).read_text()
    assert "the DAG would serve nothing**; kmeans labels the replay nevertheless" in text
    assert text.count("prototypes are too many") == 5
    assert "nothing would serve: a fall-back" in text


def test_the_report_tells_what_was_met(result, replay, tmp_path):
    labels = replay[["instance_id", "timestamp"]].assign(label=0)
    labels.loc[400:411, "label"] = 1
    path = report.write(result, tmp_path, labels)
    text = path.read_text()
    assert "1 of 1 incidents met" in text
    assert "refreshed" in text
    assert (tmp_path / "pages.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"family": "kmeens"}, "use auto or one of"),
        ({"budget": PageBudget(0)}, "0 pages for each instance and day are no budget"),
        ({"budget": PageBudget(float("inf"))}, "inf pages"),
        ({"refit_hours": -1}, "refit-hours -1"),
        ({"refit_hours": 1e-7}, "refit-hours 1e-07 must be at least 0.017, a minute"),
        ({"refit_hours": float("nan")}, "refit-hours nan"),
    ],
)
def test_what_cannot_be_replayed_so_is_named(history, replay, options, message):
    with pytest.raises(BacktestError, match=message):
        backtest(history, replay, **{"family": "kmeans", **options})


def test_a_timestamp_without_a_zone_is_utc(result, history, replay):
    frames = [x.assign(timestamp=x["timestamp"].dt.tz_localize(None)) for x in (history, replay)]
    assert backtest(*frames, family="kmeans").rows.equals(result.rows)


def test_metrics_called_as_results_replace_no_verdict(result, history, replay):
    # GIVEN the same rows under the names of a verdict
    names = dict(zip(("m0", "m1", "m2", "m3"), ("score", "alert", "level", "risk"), strict=True))
    # WHEN
    found = backtest(history.rename(columns=names), replay.rename(columns=names), family="kmeans")
    # THEN the verdicts are the same, and the metrics are beside them
    verdicts = ["instance_id", "timestamp", "score", "alert", "risk", "level", "unusual"]
    pd.testing.assert_frame_equal(found.rows[verdicts], result.rows[verdicts])
    metrics = [f"{name} (metric)" for name in names.values()]
    assert list(found.metrics.values()) == metrics
    assert found.rows[metrics].to_numpy().tolist() == result.rows[["m0", "m1", "m2", "m3"]].to_numpy().tolist()
