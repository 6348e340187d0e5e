"""Whatever a record holds, its batch is done: rows are labelled or refused, with a reason, and none stops another."""

from __future__ import annotations

import base64
import json
import math

from hypothesis import given
from hypothesis import strategies as st

from tests.support import tiny
from tests.support.fuzzing import damaged, json_bytes, mutated
from tests.support.packing import entry, pack
from tests.support.tiny import NET, TEN
from tests.support.world import DONE, ELEVEN, World

REASON_LIMIT = 300
_ROW = st.fixed_dictionaries(
    {
        "v": st.just(1),
        "service": st.just("shop"),
        "role": st.just("web"),
        "instance_id": st.sampled_from(["web-1", "web-2"]),
        "ts": st.just([TEN, TEN + tiny.PERIOD_MS]),
        "rows": st.lists(
            st.lists(st.sampled_from([10, 10.5, None, 150]), min_size=2, max_size=2), min_size=2, max_size=2
        ),
    }
)
_ENTRIES = st.builds(
    lambda name, rows, newest: entry(name, rows, newest),
    st.sampled_from(["web-1", "web-2", "web-3"]),
    st.lists(
        st.tuples(st.sampled_from([10, 10.5, 60.0, None, 150]), st.sampled_from([NET, None])).map(list), min_size=1
    ),
    st.integers(1, 3),
)
_PACK = st.lists(_ENTRIES, min_size=1, max_size=3).map(lambda entries: pack(*entries))
_DOCUMENTS = st.one_of(_ROW, _PACK)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


RECORDS = st.one_of(
    mutated(_DOCUMENTS, 2).map(lambda document: _base64(json.dumps(document).encode("utf-8", "surrogatepass"))),
    json_bytes(_DOCUMENTS).map(_base64),
    damaged(json_bytes(_ROW).map(base64.b64encode)).map(lambda data: data.decode("latin-1")),
    st.text(max_size=20),
)


@given(st.lists(RECORDS, min_size=1, max_size=3))
def test_a_batch_of_any_records_is_done(datas):
    # GIVEN a good row of an instance of its own behind the records
    world = World()
    good = tiny.stream_record([[10, NET]], "innocent")

    # WHEN
    assert world.handle(world.event(*datas, good, arrived_ms=ELEVEN)) == DONE

    # THEN each record has left a row or a reason, all can be read, and the good row is labelled
    labelled, refused = world.s3.lines("labelled/"), world.s3.lines("quarantine/")
    assert sum(label["instance_id"] == "innocent" for label in labelled) == 1
    assert len(labelled) + len(refused) >= len(datas) + 1
    for document in refused:
        assert 0 < len(document["reason"]) <= REASON_LIMIT
        assert document["rows"] >= 1
    for label in labelled:
        assert label["score"] is None or math.isfinite(label["score"])
        assert label["level"] in ("Idle", "Normal", "High Load")
