"""Reasons: each lies outside of its range, and each range is physically possible, for any kind and any row."""

import math
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from riskwatch_lambda.model.row_schema import RowSchema
from riskwatch_lambda.scoring.labelled_row import reason_document
from riskwatch_lambda.scoring.reasons import CHANGE, DEVIATION, MEAN, VALUE, Cause, find_reasons, reason_text
from riskwatch_lambda.scoring.rolling import add_rolling_features
from riskwatch_ml.schema import catalogue

LENGTHS = (4, 12)
PACKAGED = sorted(path.stem for path in (Path(catalogue.__file__).parent / "catalogues").glob("*.toml"))
KINDS = [[(metric.lower, metric.upper) for metric in catalogue.load(kind).metrics] for kind in PACKAGED]
_BOUNDS = st.sampled_from([(None, None), (0.0, None), (0.0, 100.0), (-50.0, 50.0)])
_SCHEMAS = st.one_of(st.sampled_from(KINDS), st.lists(_BOUNDS, min_size=1, max_size=40))


def squashed(value, center, scale):
    deviation = 0.0 if value is None else (value - center) / scale
    return math.copysign(math.log1p(abs(deviation)), deviation)


@given(_SCHEMAS, st.booleans(), st.data())
def test_no_reason_lies_within_its_range_and_no_bound_outside_of_what_is_possible(bounds, has_trails, data):
    # GIVEN rows of a kind with possible values, and any usual values
    schema = RowSchema(tuple(f"metric_{number}" for number in range(len(bounds))), tuple(bounds), 1)
    lengths = LENGTHS if has_trails else ()
    number = st.floats(-1e9, 1e9)
    values = [
        st.none() | st.floats(-1e9 if low is None else low, 1e9 if high is None else high) for low, high in bounds
    ]
    rows = data.draw(st.lists(st.tuples(*values), min_size=1, max_size=5))
    wide = add_rolling_features(rows, 0, len(rows) - 1, lengths) if lengths else rows[-1]
    usual = [(data.draw(number), data.draw(st.floats(1e-6, 1e9))) for _ in wide]
    behaviour = [squashed(value, *at) for value, at in zip(wide, usual, strict=True)]
    exhausted = data.draw(st.booleans())
    causes = [Cause(position, 0.5, True, exhausted) for position in range(min(3, len(bounds)))]

    # WHEN
    reasons = find_reasons(schema, lengths, causes, [1.0] * len(wide), behaviour, wide, usual)

    # THEN
    for reason in reasons:
        document = reason_document(reason)
        assert not document["low"] <= document["value"] <= document["high"]
        assert (document["value"] > document["high"]) == (document["direction"] == "up")
        assert reason_text("x", document) is not None
        low, high = bounds[schema.features.index(reason.feature)]
        if reason.aspect in (VALUE, MEAN):
            assert low is None or reason.low >= low
            assert high is None or reason.high <= high
        if reason.aspect == DEVIATION:
            assert reason.low >= 0


CAUSES = (Cause(0, 0.9, rising=True), Cause(1, 0.1, rising=True))


def told(values, usual, causes=CAUSES, bounds=((0.0, 100.0), (0.0, None))):
    """Return the reasons of two metrics with changes, and mean and deviation over four rows."""
    behaviour = [squashed(value, *at) for value, at in zip(values, usual, strict=True)]
    schema = RowSchema(("cpu", "net"), bounds, 1)
    return find_reasons(schema, (4,), causes, [1.0] * len(values), behaviour, values, usual)


USUAL = [(50.0, 5.0), (100.0, 10.0), (0.0, 1.0), (0.0, 1.0), (50.0, 5.0), (100.0, 10.0), (2.0, 1.0), (4.0, 1.0)]


def test_the_aspect_that_leaves_the_widest_range_is_told():
    # GIVEN a value in its range, after a fall
    [reason] = told([40.0, 100.0, -30.0, 0.0, 52.0, 100.0, 2.0, 4.0], USUAL)

    # WHEN / THEN the change is the reason, in its own numbers
    assert (reason.feature, reason.aspect, reason.rows) == ("cpu", CHANGE, 0)
    assert (reason.value, reason.low, reason.high, reason.direction) == (-30.0, -3.0, 3.0, "down")


def test_mean_and_deviation_name_their_rows_and_what_is_possible():
    # GIVEN a deviation of 15 where 2 is usual
    [reason] = told([52.0, 100.0, 0.0, 0.0, 52.0, 100.0, 15.0, 4.0], USUAL)

    # WHEN / THEN no deviation is below 0
    assert (reason.aspect, reason.rows, reason.low, reason.high) == (DEVIATION, 4, 0.0, 5.0)


def test_what_leaves_its_whole_range_comes_first():
    # GIVEN cpu with the larger share leaves 2 scales, net leaves 3
    reasons = told([61.0, 140.0, 0.0, 0.0, 50.0, 100.0, 2.0, 4.0], USUAL)

    # WHEN / THEN
    assert [(reason.feature, reason.low, reason.high) for reason in reasons] == [("net", 70, 130), ("cpu", 40, 60)]


def test_a_small_share_is_a_reason_only_beyond_the_whole_range():
    # GIVEN net with a share of 1 %, just out of 1 scale, then out of 3
    causes = (Cause(1, 0.01, rising=True),)
    assert told([50.0, 112.0, *[0.0] * 2, 50.0, 100.0, 2.0, 4.0], USUAL, causes) == ()
    assert len(told([50.0, 132.0, *[0.0] * 2, 50.0, 100.0, 2.0, 4.0], USUAL, causes)) == 1


def test_rounding_never_moves_a_value_into_its_range():
    # GIVEN a value that four digits do not tell from its bound
    [reason] = told([50.0, 100000.4, *[0.0] * 2, 50.0, 100.0, 2.0, 4.0], [*USUAL[:1], (99970.0, 10.0), *USUAL[2:]])
    document = reason_document(reason)

    # WHEN / THEN
    assert (document["value"], document["high"]) == (100000.4, 100000.0)


def test_an_exhausted_metric_comes_first_even_within_a_wide_range():
    # GIVEN net at its exhaustion bound, half a scale above the center of its role, and cpu far out of range
    causes = (Cause(1, 0.0, rising=True, exhausted=True), Cause(0, 1.0, rising=True))
    wide = [80.0, 105.0, *[0.0] * 2, 50.0, 100.0, 2.0, 4.0]

    # WHEN / THEN
    reasons = told(wide, USUAL, causes)
    assert [(reason.feature, reason.low, reason.high) for reason in reasons] == [("net", 90, 100), ("cpu", 35, 65)]
