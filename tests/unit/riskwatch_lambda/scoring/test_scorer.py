"""The scoring rule against arithmetic done by hand on the tiny model (see tiny.py for why E squashes to 1)."""

from __future__ import annotations

import copy
import math
import random

import pytest

from riskwatch_lambda.paging_rule import EXHAUSTED, NO_SIGNATURE, Signature
from riskwatch_lambda.scoring.records import Record
from riskwatch_lambda.scoring.scorer import score, verdicts
from tests.support import tiny
from tests.support.tiny import CPU, CPU_AT_TEN, NET, TEN, E, record


def test_the_score_is_the_distance_over_the_boundary_of_the_instance():
    # GIVEN a boundary of 2 for web-1 and a row one squashed unit above center in cpu and below it in net
    model = tiny.model({"b0": [1.0, 1.0, 2.0]})

    # WHEN it is scored
    verdict = score(model, record([[CPU + E, NET - 10 * E]]))

    # THEN the score is |(1, -1)| / 2
    assert verdict.score == pytest.approx(math.sqrt(2) / 2, abs=1e-12)
    assert not verdict.unusual
    assert verdict.context


def test_a_harmful_row_opens_from_a_score_of_one_on_whatever_the_paging_threshold():
    # GIVEN the paging threshold 1.5
    model = tiny.model()

    # WHEN rows at distance 0.99, 1.01 and 2 in cpu are scored: log(1 + z) = 2 at z = e^2 - 1
    near, one, two = (score(model, record([[CPU + math.expm1(far), NET]])) for far in (0.99, 1.01, 2))

    # THEN the unusual ones open, for cpu, and their strength is the score
    assert (near.unusual, near.opens, near.signature) == (False, False, NO_SIGNATURE)
    for verdict, far in ((one, 1.01), (two, 2)):
        judged = verdict.harmful, verdict.opens, verdict.signature, verdict.strength
        assert judged == (True, True, Signature("cpu", "up"), pytest.approx(far))


def test_a_move_in_the_harmless_direction_does_not_open():
    # GIVEN cpu, which is harmful upwards, far below its center; net, harmful both ways, at its center
    model = tiny.model({"center": [tiny.baseline(50, 500), tiny.baseline(30, 300), tiny.baseline(60, NET)]})

    # WHEN it is scored
    verdict = score(model, record([[0.0, NET]]))

    # THEN it is far beyond the threshold and does not open
    assert verdict.score == pytest.approx(math.log(61))
    assert (verdict.unusual, verdict.harmful, verdict.opens) == (True, False, False)
    assert (verdict.reasons[0].direction, verdict.signature) == ("down", NO_SIGNATURE)


def test_missing_values_take_the_center_of_their_hour():
    # GIVEN a row without cpu
    # WHEN it is scored
    verdict = score(tiny.model(), record([[None, NET + 10 * E]]))

    # THEN cpu deviates by nothing, and the level is that of the center, log(11) being nearest to 3
    assert verdict.score == pytest.approx(1)
    assert verdict.level == "Normal"
    # AND cpu is no reason
    assert [(reason.feature, reason.share) for reason in verdict.reasons] == [("net", 1.0)]


def test_members_average_by_weight_and_each_row_uses_its_own_hour():
    # GIVEN two members, weights 1 and 3, boundaries 1 and 2, and two rows, 10:55 and 11:00
    changes = tiny.two_members()
    model = tiny.model(changes["arrays"], members=changes["members"])

    # WHEN the older row is two units above the center of 10 o'clock and the newer two units above that of 11
    two = math.e**2 - 1
    verdict = score(model, record([[CPU_AT_TEN + two, NET], [CPU + two, NET]]))

    # THEN the members see |(2, 0)| / 1 and |(2, 0, 2, 0)| / 2, and the score is their weighted mean
    assert verdict.score == pytest.approx((1 * 2 + 3 * math.sqrt(8) / 2) / 4, abs=1e-12)
    assert verdict.context
    # AND the nearest prototypes being at the origin, cpu contributes 1 * 4 / 1 + 3 * (4 + 4) / 4 and net nothing
    assert verdict.unusual
    assert [(reason.feature, reason.share) for reason in verdict.reasons] == [("cpu", 1.0)]


def test_without_context_the_members_that_have_their_window_decide():
    # GIVEN a member that needs two rows and a record with one
    changes = tiny.two_members()
    model = tiny.model(changes["arrays"], members=changes["members"])

    # WHEN it is scored
    verdict = score(model, record([[CPU + E, NET]]))

    # THEN the member with a window of one decides alone
    assert verdict.score == pytest.approx(1)
    assert not verdict.context


def test_a_window_never_spans_a_gap():
    # GIVEN two rows 31 minutes apart, where 30 are the limit
    changes = tiny.two_members()
    model = tiny.model(changes["arrays"], members=changes["members"])
    newest = TEN + 3_600_000
    split = record([[CPU + E, NET], [CPU + E, NET]], ts=[newest - 31 * 60_000, newest])
    whole = record([[CPU + E, NET], [CPU + E, NET]], ts=[newest - 30 * 60_000, newest])

    # WHEN they are scored, THEN the older row is context at the limit and none beyond it
    assert not score(model, split).context
    assert score(model, whole).context


def test_too_few_rows_for_every_member_give_no_score():
    # GIVEN a model whose only member needs two rows
    changes = tiny.two_members()
    model = tiny.model(changes["arrays"], members=changes["members"][1:])

    # WHEN a single row is scored, THEN there is a level and no score, and only exhaustion opens
    verdict = score(model, record([[CPU, NET]]))
    assert math.isnan(verdict.score)
    assert (verdict.unusual, verdict.opens, verdict.reasons, verdict.level) == (False, False, (), "Normal")
    assert score(model, record([[96.0, NET]])).signature == Signature("cpu", EXHAUSTED)


def test_exhaustion_opens_where_it_is_news():
    # GIVEN cpu exhausted at 95; web-1's center 10 and one whose normal reach, 93 + 3, is beyond it
    busy = tiny.model({"center": [tiny.baseline(50, 500), tiny.baseline(30, 300), tiny.baseline(93, NET)]})

    # WHEN 95 is reached, THEN it opens where it is news, even with a huge boundary, and not where it is normal
    assert score(tiny.model({"b0": [99.0, 99.0, 99.0]}), record([[95.0, NET]])).opens
    assert not score(tiny.model({"b0": [99.0, 99.0, 99.0]}), record([[94.9, NET]])).exhausted
    assert not score(busy, record([[96.0, NET]])).exhausted


def test_exhaustion_opens_for_a_new_instance_from_its_first_row():
    # GIVEN a model whose members need two rows, and centers of 93 for the role web and the fleet: instances differ
    changes = tiny.two_members()
    centers = [tiny.baseline(93, 500), tiny.baseline(93, 300), tiny.baseline(CPU, NET)]
    model = tiny.model({"center": centers, **changes["arrays"]}, members=changes["members"][1:])

    # WHEN the first row of a new instance, of a known and of an unknown role, is at the bound
    verdicts = [score(model, record([[95.0, 300.0]], "new", role=role)) for role in ("web", "db")]

    # THEN both open, and a value below the bound does not
    assert [(verdict.exhausted, verdict.opens) for verdict in verdicts] == [(True, True)] * 2
    assert not score(model, record([[94.9, 300.0]], "new")).opens


def test_exhaustion_that_is_normal_for_a_role_opens_none_of_its_new_instances():
    # GIVEN a role whose instances are beyond the bound on average
    model = tiny.model({"center": [tiny.baseline(50, 500), tiny.baseline(97, 300), tiny.baseline(CPU, NET)]})

    # WHEN a new instance of it is, too, THEN that is no exhaustion
    assert not score(model, record([[98.0, 300.0]], "web-9")).exhausted


def test_a_row_of_a_new_instance_opens_from_the_factor_of_the_rule_on():
    # GIVEN the factor 1.4 of the document, and rows 1.3 and 2.8 above the center of cpu
    model = tiny.model(rule={**tiny.DOCUMENT["rule"], "new_instance_factor": 1.4})
    low, high = math.expm1(1.3), math.expm1(2.8)

    # WHEN they come from a known instance, a new one of a known role, and one of an unknown role
    def judged(move: float, center: float, net: float, name: str, role: str) -> tuple[bool, float]:
        verdict = score(model, record([[center + move, net]], name, role=role))
        return verdict.opens, verdict.strength

    # THEN the known one opens from 1, the new one from 1.4, and the other never for its behaviour
    assert judged(low, CPU, NET, "web-1", "web") == (True, pytest.approx(1.3))
    assert judged(low, 30, 300, "web-9", "web") == (False, pytest.approx(1.3 / 1.4))
    assert judged(high, 30, 300, "web-9", "web") == (True, pytest.approx(2.0))
    assert [judged(move, 50, 500, "db-1", "db") for move in (low, high)] == [(False, 0.0)] * 2


def test_an_instance_not_seen_in_training_falls_back_to_role_then_fleet():
    # GIVEN centers of cpu 10 for web-1, 30 for the role web and 50 for the fleet
    model = tiny.model()

    # WHEN rows exactly at these centers are scored
    own = score(model, record([[10.0, 100.0]]))
    role = score(model, record([[30.0, 300.0]], "web-9"))
    fleet = score(model, record([[50.0, 500.0]], "db-1", role="db"))

    # THEN each is normal by its own baseline
    assert [verdict.score for verdict in (own, role, fleet)] == [0, 0, 0]


def test_reasons_name_the_range_that_the_row_leaves_within_physical_bounds():
    # GIVEN web-1 with cpu normally 10 +- 3 and net 100 +- 30; a role with cpu 99 +- 3
    model = tiny.model({"center": [tiny.baseline(50, 500), tiny.baseline(99, 300), tiny.baseline(CPU, NET)]})

    # WHEN deviations of 2 and 1 units are scored
    reasons = score(model, record([[CPU + math.e**2 - 1, NET - 10 * E]])).reasons

    # THEN cpu has 4 and net 1 of 5 parts; cpu leaves 3 scales, net 1 of 10
    assert [(reason.feature, reason.direction) for reason in reasons] == [("cpu", "up"), ("net", "down")]
    assert [reason.share for reason in reasons] == pytest.approx([0.8, 0.2])
    assert (reasons[0].low, reasons[0].high, reasons[1].low, reasons[1].high) == (7, 13, 90, 110)
    clipped = score(model, record([[94.0, 300.0]], "web-9")).reasons[0]
    assert (clipped.low, clipped.high) == (96, 100)


def test_only_rows_that_are_nearly_unusual_or_exhausted_are_explained():
    # GIVEN a boundary of 1, so that a deviation of 0.5 is usual and one of 0.9 nearly not, and cpu exhausted at 95
    usual = score(tiny.model(), record([[CPU + math.e**0.5 - 1, NET]]))
    nearly = score(tiny.model(), record([[CPU + math.e**0.9 - 1, NET]]))
    # AND a boundary so wide that nothing is unusual
    exhausted = score(tiny.model({"b0": [99.0] * 3}), record([[96.0, NET]]))

    # THEN the usual row has no reasons, and the others have
    assert (nearly.unusual, nearly.reasons[0].feature) == (False, "cpu")
    assert (usual.unusual, usual.exhausted, usual.reasons, usual.harmful) == (False, False, (), False)
    assert (exhausted.unusual, exhausted.exhausted, exhausted.opens) == (False, True, True)
    assert exhausted.reasons[0].feature == "cpu"


@pytest.mark.parametrize(("cpu", "level"), [(0.0, "Idle"), (10.0, "Normal"), (60.0, "High Load")])
def test_the_level_comes_from_absolute_values(cpu: float, level: str):
    # GIVEN prototypes at log(1 + cpu) = 0, 3 and 4.4 WHEN rows are scored THEN the nearest one names the level
    assert score(tiny.model(), record([[cpu, NET]])).level == level


@pytest.mark.parametrize(
    ("cpu", "level"),
    [(0.0, "Idle"), (9.9, "Idle"), (10.0, "Normal"), (69.9, "Normal"), (70.0, "High Load"), (None, "Normal")],
)
def test_the_level_of_one_metric_comes_from_two_of_its_values(cpu: float | None, level: str):
    # GIVEN cuts at 10 and 70 % CPU, and a center of 10 % WHEN rows are scored THEN a missing value counts as its center
    model = tiny.model(level={"cuts": {"metric": 0, "idle_below": 10.0, "high_from": 70}})
    assert score(model, record([[cpu, NET]])).level == level


def test_a_level_that_no_row_has_has_no_cut():
    model = tiny.model(level={"cuts": {"metric": 1, "idle_below": None, "high_from": None}})
    assert {score(model, record([[0.0, net]])).level for net in (-1e15, 0.0, 1e15)} == {"Normal"}


def two_stages(radius: float | None = None, outside: int | None = None) -> dict[str, object]:
    """Give a level with two stages: below or above log(1 + cpu) = 2, and near or far from the origin."""
    level = copy.deepcopy(tiny.DOCUMENT["level"])
    level["map"] = {
        "stages": [
            {"prototypes": "low_high", "labels": [0, 1], "radius": None, "outside": None},
            {"prototypes": "origin", "labels": [0], "radius": radius, "outside": outside},
        ],
        "table": {"0,0": 0, "1,0": 2, "0,9": 1, "1,9": 1},
    }
    return level


def test_two_stages_and_a_table_name_the_level():
    # GIVEN a second stage that says 9 beyond a radius of 1 around the origin
    arrays = {"low_high": [[0.0, 0.0], [4.0, 0.0]], "origin": [[0.0, 0.0]]}
    model = tiny.model(arrays, level=two_stages(radius=1.0, outside=9))
    wide = tiny.model(arrays, level=two_stages(radius=9.0, outside=9))

    # WHEN cpu 0 (log 1 = 0) and 60 (log 61 = 4.1) are scored
    # THEN the pairs (0, 0), (1, 9) and (1, 0) give labels 0, 1 and 2
    assert score(model, record([[0.0, NET]])).level == "Idle"
    assert score(model, record([[60.0, NET]])).level == "Normal"
    assert score(wide, record([[60.0, NET]])).level == "High Load"


def test_two_stages_average_their_distances():
    # GIVEN a member with prototypes at distance 1 and 3 of the row in its two stages
    members = copy.deepcopy(tiny.DOCUMENT["members"])
    members[0]["map"]["stages"].append({"prototypes": "far", "labels": [0], "radius": None, "outside": None})
    members[0]["map"]["table"] = {"0,0": 0}
    model = tiny.model({"far": [[-2.0, 0.0]]}, members=members)

    # WHEN the row at (1, 0) is scored, THEN its distance is their mean
    assert score(model, record([[CPU + E, NET]])).score == pytest.approx(2)


def test_among_equally_near_prototypes_the_first_decides():
    # GIVEN two level prototypes at the same place
    model = tiny.model({"level_map": [[3.0, 0.0], [3.0, 0.0], [9.0, 0.0]]})

    # WHEN a row near both is scored, THEN it has the label of the first
    assert score(model, record([[19.0, NET]])).level == "Idle"


def pack(rows: list[list[float | None]], newest: int, ts: list[int] | None = None) -> Record:
    """Give a record of many rows, the last ``newest`` of which are to be labelled."""
    last = TEN + 12 * tiny.PERIOD_MS
    times = ts or [last - tiny.PERIOD_MS * back for back in reversed(range(len(rows)))]
    return Record("shop", "web", "web-1", tuple(times), tuple(tuple(row) for row in rows), newest)


@pytest.mark.parametrize("rolling_lengths", [[], [2, 4]])
def test_rows_of_a_pack_are_judged_as_if_each_came_alone(rolling_lengths: list[int]):
    # GIVEN a model of two members, with and without trailing features, and 40 rows with missing values and two gaps
    width = 2 * (2 + 2 * len(rolling_lengths)) if rolling_lengths else 2
    changes = tiny.two_members()
    arrays = {
        **changes["arrays"],
        "m0": [[0.5] * width],
        "m1": [[0.0] * 2 * width, [1.0] * 2 * width],
        "center": [[[CPU, NET] * (width // 2)] * 24] * 3,
        "scale": [[[1.0, 10.0] * (width // 2)] * 24] * 3,
    }
    context = 2 + max(rolling_lengths, default=1) - 1
    model = tiny.model(arrays, members=changes["members"], trails=rolling_lengths, context_rows=context)
    rng = random.Random(4)
    rows = [[None if rng.random() < 0.1 else CPU + rng.gauss(0, 3), NET + rng.gauss(0, 9)] for _ in range(40)]
    gaps = {17: 2_000_000, 30: 9_000_000}
    times = [TEN]
    for place in range(1, 40):
        times.append(times[-1] + gaps.get(place, tiny.PERIOD_MS))

    # WHEN all but the context are judged in one record, and each in a record of its own
    together = verdicts(model, pack(rows, 40 - context + 1, times))
    alone = [
        score(model, pack(rows[place - context + 1 : place + 1], 1, times[place - context + 1 : place + 1]))
        for place in range(context - 1, 40)
    ]

    # THEN the verdicts are the same, and the rows after a gap have no context
    assert together == tuple(alone)
    assert [place for place, verdict in enumerate(together, context - 1) if not verdict.context] == [17, 30]


def test_a_pack_without_context_is_labelled_from_its_first_row_on():
    # GIVEN two rows for a member that needs two, both to be labelled
    changes = tiny.two_members()
    model = tiny.model(changes["arrays"], members=changes["members"])

    # WHEN they are judged, THEN the first has no context and the second does
    first, second = verdicts(model, pack([[CPU, NET], [CPU, NET]], 2))
    assert (first.context, second.context) == (False, True)


def test_shares_add_up_over_window_rows_and_trailing_blocks():
    # GIVEN one member over the row and its difference to the row before, trail of two: four blocks of two metrics
    arrays = {
        "center": [[[CPU, NET] + [0.0, 0.0] * 2 + [0.0, 0.0]] * 24] * 3,
        "scale": [[[1.0, 10.0] + [1.0, 10.0] * 2 + [1.0, 10.0]] * 24] * 3,
        "m0": [[0.0] * 8],
    }
    model = tiny.model(arrays, trails=[2], context_rows=2)

    # WHEN cpu rises by E from CPU: value 1, difference 1, and mean and deviation of [CPU, CPU + E]
    reasons = score(model, record([[CPU, NET], [CPU + E, NET]])).reasons

    # THEN all of the distance but the mean of net is cpu's
    cpu = 1 + 1 + math.log1p(CPU + E / 2) ** 2 + math.log1p(E / 2) ** 2
    net = math.log1p(NET / 10) ** 2
    assert [(reason.feature, reason.share) for reason in reasons] == [
        ("cpu", pytest.approx(cpu / (cpu + net))),
        ("net", pytest.approx(net / (cpu + net))),
    ]
