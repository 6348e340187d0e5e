"""Whatever the settings hold, they are valid, or refused with key and value."""

import math
import os
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from riskwatch_ml.core import settings
from riskwatch_ml.core.errors import UserInputError
from tests.support.fuzzing import NUMBERS, TEXTS, damaged, outcome

REQUIRED = {
    "RISKWATCH_BUCKET": "b",
    "RISKWATCH_STREAM": "s",
    "RISKWATCH_TABLE": "t",
    "RISKWATCH_FUNCTION": "f",
    "RISKWATCH_MLFLOW_URI": "http://mlflow:5000",
}
NAMES = [f"RISKWATCH_{item.name.upper()}" for item in fields(settings.Settings)]
# A variable of the environment can hold neither NUL nor a lone surrogate of a high code point.
_TEXTS = st.one_of(
    TEXTS, NUMBERS.map(str), st.sampled_from(["nan", "-inf", "1e300", "3e2", "60", "{}", '{a = "b"}', "[[["])
)
_VALUES = _TEXTS.filter(lambda text: "\0" not in text and text.isprintable())
_LINES = st.tuples(
    st.sampled_from([item.name for item in fields(settings.Settings)]), st.one_of(_TEXTS, NUMBERS.map(str))
)


def read(environment):
    settings.load.cache_clear()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RISKWATCH_")}
    with mock.patch.dict(os.environ, {**kept, **environment}, clear=True):
        try:
            return settings.load()
        finally:
            settings.load.cache_clear()


def check(found):
    """Assert what every run relies on: intervals made of the numbers lie in the calendar."""
    now = datetime(2026, 11, 22, tzinfo=UTC)
    assert 86_400 % found.period_s == 0
    for number in (found.budget, found.pages_per_day):
        assert number is None or 0 < number < math.inf
    assert found.rotations >= 1
    spans = timedelta(seconds=found.settle_s), timedelta(hours=found.reread_hours), timedelta(days=found.reread_days)
    assert all(now - span <= now for span in spans)
    assert now - timedelta(days=found.history_days) < now
    assert now - timedelta(hours=found.new_normal_hours) < now


@given(st.dictionaries(st.sampled_from(NAMES), _VALUES, max_size=3))
def test_variables_are_valid_or_refused_by_name(values):
    # GIVEN / WHEN
    found, refusal = outcome(lambda: read({**REQUIRED, **values}), UserInputError)

    # THEN
    if found is None:
        assert any(name.removeprefix("RISKWATCH_").lower() in refusal.lower() for name in values)
    else:
        check(found)


@given(st.one_of(st.lists(_LINES, max_size=3), damaged(st.just(b'bucket = "b"\nbudget = 1.0\n[schedules]\n'))))
def test_a_file_is_valid_or_refused(tmp_path_factory, content):
    # GIVEN a file in which a value may be of any type, or damaged
    path = tmp_path_factory.getbasetemp() / "riskwatch.toml"
    text = content if isinstance(content, bytes) else "\n".join(f"{name} = {value}" for name, value in content).encode()
    path.write_bytes(text)

    # WHEN / THEN
    found, refusal = outcome(lambda: read({**REQUIRED, "RISKWATCH_CONFIG": str(path)}), UserInputError)
    if found is None:
        assert refusal
    else:
        check(found)
