"""What makes a campaign of faults fail, and how an outcome reads."""

from dataclasses import replace

import pytest

from bench.faults import outcome
from bench.faults.outcome import Healing, Outcome, Totals

GOOD = Outcome("F1 kill -9", "fetch running", Healing.ITSELF, 1.25, "two\nlines", 0, 48, "objects")
TOTALS = Totals(
    sent=10,
    labelled=8,
    quarantined=2,
    missing=0,
    in_table=8,
    twice=0,
    episodes=3,
    undelivered=0,
    repeated=1,
    held=1,
    crashes=1,
)


def test_a_line_has_moment_healing_loss_and_message():
    assert GOOD.line() == "F1 kill -9 | fetch running | by itself, 1.2 s | 0 of 48 objects lost | two lines"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"lost": 2}, ["F1 kill -9: 2 of 48 objects were lost"]),
        ({"healing": Healing.RESTART}, []),
        ({"healing": Healing.REFUSED}, []),
        ({"healing": Healing.PERSON}, ["F1 kill -9: a person was needed"]),
        # The content of the object was destroyed: only its version has it.
        ({"healing": Healing.PERSON, "is_gone": True}, []),
        ({"healing": Healing.NOT}, ["F1 kill -9: two lines"]),
    ],
)
def test_a_loss_or_a_person_makes_the_campaign_fail(change, expected):
    assert outcome.problems([replace(GOOD, **change)], TOTALS) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"missing": 1}, "1 rows are neither labelled nor quarantined"),
        ({"in_table": 7}, "the table has 7 of 8 labelled rows, 0 of them twice"),
        ({"twice": 1}, "the table has 8 of 8 labelled rows, 1 of them twice"),
        ({"undelivered": 1}, "1 messages did not arrive"),
        ({"repeated": 2}, "2 messages came twice in 1 crashes"),
    ],
)
def test_accounts_that_do_not_add_up_make_the_campaign_fail(change, expected):
    assert outcome.problems([GOOD], replace(TOTALS, **change)) == [expected]


def test_a_campaign_without_accounts_fails():
    assert outcome.problems([GOOD], None) == ["the accounts could not be made"]
