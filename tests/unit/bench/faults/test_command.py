"""The command of the campaign: it prints lines, table, accounts and what is not covered, and its exit code judges."""

import json
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest

from bench.faults import __main__ as command
from bench.faults import campaign
from tests.unit.bench.faults.test_outcome import GOOD, TOTALS


@contextmanager
def nothing(*_):
    yield SimpleNamespace(died=[])


@pytest.mark.parametrize(("lost", "code"), [(0, 0), (1, 1)])
def test_the_exit_code_says_whether_something_was_lost(lost, code, tmp_path, monkeypatch, capsys):
    # GIVEN a campaign of one fault, without a demo
    found = replace(GOOD, lost=lost)
    monkeypatch.setattr(command, "live_demo", nothing)
    monkeypatch.setattr(command, "hold", nothing)

    def run(_world, names, report):
        assert names == ["release"]
        report(found)
        return [found]

    monkeypatch.setattr(campaign, "run", run)
    monkeypatch.setattr(campaign, "settle", lambda _: TOTALS)

    # WHEN / THEN
    assert command._run(["release"], tmp_path, tmp_path / "out.json") == code
    printed = capsys.readouterr().out
    assert found.line() in printed
    assert "Not in this run:" in printed
    assert "rows: 10 sent = 8 labelled + 2 quarantined + 0 missing" in printed
    document = json.loads((tmp_path / "out.json").read_text())
    assert document["outcomes"][0]["lost"] == lost
    assert len(document["problems"]) == lost


def test_every_fault_that_heals_beside_others_is_in_the_order():
    assert set(campaign.BEGUN) <= set(campaign.ORDER)
