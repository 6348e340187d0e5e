"""Whatever the stored comparison or a ledger entry holds, it is read, or named."""

from hypothesis import given
from hypothesis import strategies as st

from riskwatch_ml.core.errors import RiskwatchError
from riskwatch_ml.registry import ledger, serving
from riskwatch_ml.registry.serving import AliasTarget, Serving
from riskwatch_ml.storage import keys
from riskwatch_ml.storage.bucket import Store
from tests.support.bucket import Bucket
from tests.support.fuzzing import json_bytes, outcome

NOW = Serving(AliasTarget("3", "ab" * 32), None, None, None, ())
_REPORTS = st.fixed_dictionaries(
    {
        "at": st.just("2026-11-22T10:00:00.000Z"),
        "function_version": st.sampled_from(["3", "4"]),
        "ledger": st.sampled_from(["", "ledger/x"]),
        "disagreements": st.lists(st.just("differs"), max_size=2),
    }
)
_ENTRIES = st.fixed_dictionaries(
    {
        "action": st.sampled_from([*ledger.SERVING, ledger.DRY_RUN]),
        "at": st.just("2026-11-22T10:00:00.000Z"),
        "digest": st.just("ab" * 32),
        "function_version": st.sampled_from(["3", "4"]),
    }
)


@given(json_bytes(_REPORTS))
def test_any_comparison_is_read_or_stored_again(content):
    # GIVEN
    store = Store(Bucket(), "bucket")
    store.put_bytes(keys.SERVING, content)

    # WHEN it is read and replaced, THEN no error comes out, and the new one is there
    serving.is_reported(store, NOW)
    serving.keep(store, NOW)
    assert serving.is_reported(store, NOW)


@given(json_bytes(_ENTRIES))
def test_any_ledger_entry_is_read_or_named(content):
    # GIVEN
    store = Store(Bucket(), "bucket")
    store.put_bytes("ledger/2026-11-22T10:00:00.000Z-promote-abababab.json", content)

    # WHEN
    entries, refusal = outcome(lambda: ledger.read(store), RiskwatchError)

    # THEN
    if entries is None:
        assert "ledger/2026-11-22T10:00:00.000Z-promote-abababab.json" in refusal
        assert "restore its previous version" in refusal
    else:
        recorded = ledger.in_service(entries)
        assert recorded is None or isinstance(recorded["function_version"], str)
