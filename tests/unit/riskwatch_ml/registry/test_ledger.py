"""The ledger appends, and never overwrites."""

import pytest

from riskwatch_ml.registry import ledger


class Objects:
    """The three calls of the store that the ledger makes."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}

    def put_bytes(self, key, data, if_absent=False):
        if if_absent and key in self.held:
            return False
        self.held[key] = data
        return True

    def get_bytes(self, key):
        return self.held.get(key)

    def keys(self, prefix):
        return sorted(key for key in self.held if key.startswith(prefix))


def test_the_ledger_appends_and_never_overwrites():
    # GIVEN two different entries of the same millisecond, one of them written twice
    store = Objects()
    at = {"digest": "0123456789abcdef", "at": "2026-11-22T10:00:00.000Z"}
    keys = [
        ledger.write(store, {"action": "promote", "by": "ops", **at}),
        ledger.write(store, {"action": "promote", "by": "ops", **at}),
        ledger.write(store, {"action": "promote", "by": "dev", **at}),
    ]
    # THEN the repeated one is the same object and the other one has its own
    assert keys == [
        "ledger/2026-11-22T10:00:00.000Z-promote-01234567.json",
        "ledger/2026-11-22T10:00:00.000Z-promote-01234567.json",
        "ledger/2026-11-22T10:00:00.001Z-promote-01234567.json",
    ]
    assert [entry["by"] for entry in ledger.read(store)] == ["dev", "ops"]
    assert len(ledger.read(store, limit=1)) == 1


@pytest.mark.parametrize(
    "entry", [{"digest": "0" * 64}, {"action": "a/b", "digest": "0" * 64}, {"action": "promote", "digest": "x"}]
)
def test_a_ledger_entry_that_could_not_be_found_again_is_refused(entry):
    with pytest.raises(ledger.LedgerError, match="ledger entry"):
        ledger.write(Objects(), entry)
