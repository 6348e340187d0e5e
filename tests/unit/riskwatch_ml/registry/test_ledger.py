"""The ledger appends, and never overwrites."""

import pytest

from riskwatch_ml.registry import ledger
from riskwatch_ml.storage.bucket import Store
from riskwatch_ml.storage.parquet import StoreError
from tests.support.bucket import Bucket


def test_the_ledger_appends_and_never_overwrites():
    # GIVEN two different entries of the same millisecond, one of them written twice
    store = Store(Bucket(), "bucket")
    at = {"digest": "0123456789abcdef", "at": "2026-11-22T10:00:00.000Z", "function_version": "1"}
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


def test_a_confirmation_in_the_millisecond_of_a_promotion_is_the_newer_entry():
    # GIVEN
    store = Store(Bucket(), "bucket")
    at = {"digest": "0123456789abcdef", "at": "2026-11-22T10:00:00.000Z", "function_version": "1"}
    ledger.write(store, {"action": "promote", **at})

    # WHEN
    ledger.write(store, {"action": "confirm", **at})

    # THEN
    assert [entry["action"] for entry in ledger.read(store)] == ["confirm", "promote"]


@pytest.mark.parametrize(
    "entry", [{"digest": "0" * 64}, {"action": "a/b", "digest": "0" * 64}, {"action": "promote", "digest": "x"}]
)
def test_a_ledger_entry_that_could_not_be_found_again_is_refused(entry):
    with pytest.raises(ledger.LedgerError, match="ledger entry"):
        ledger.write(Store(Bucket(), "bucket"), entry)


@pytest.mark.parametrize(
    ("damage", "error", "words"),
    [
        (b'{"action": "promo', StoreError, "b.json is not JSON .* restore its previous version"),
        (b"\xff", StoreError, "b.json is not JSON"),
        (b"[" * 100_000, StoreError, "b.json is not JSON"),
        (b"[]", StoreError, "b.json is no ledger entry, it has no action: restore its previous version"),
        (b'{"action": "promote", "at": "x", "digest": "y"}', StoreError, "it has no function_version"),
    ],
)
def test_a_damaged_entry_is_named(damage, error, words):
    # GIVEN a good entry below a damaged one
    store = Store(Bucket(), "bucket")
    ledger.write(store, {"action": "dry_run", "digest": "0" * 64})
    store.put_bytes("ledger/b.json", damage)

    # WHEN / THEN
    with pytest.raises(error, match=words):
        ledger.read(store)
