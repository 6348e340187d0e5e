"""Whatever a catalogue or an inventory holds, it is read, or refused with its error."""

import json

from hypothesis import given
from hypothesis import strategies as st

from riskwatch_ml.schema import catalogue, inventory
from riskwatch_ml.schema.inventory import InventoryError
from riskwatch_ml.schema.metric import CatalogueError
from tests.support.fuzzing import VALUES, damaged, json_bytes, mutated, outcome

_METRIC = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["cpu", "net", "score", "Cpu", ""]),
        "namespace": st.sampled_from(["AWS/EC2", "CWAgent"]),
        "metric": st.sampled_from(["CPUUtilization", "mem"]),
    },
    optional={
        "stat": st.sampled_from(["Average", "p99", "Mean", "PR(1:2)"]),
        "period_s": st.sampled_from([0, 60, 90, 300, -60, 10**30]),
        "scale": st.sampled_from([1, 0.5, 0, -1, float("nan"), float("inf"), 10**400]),
        "lower": st.sampled_from([0, 5.0, float("-inf"), -(10**400)]),
        "upper": st.sampled_from([100, 0.0, float("nan")]),
        "exhaustion": st.sampled_from([90, float("inf")]),
        "direction": st.sampled_from(["up", "down", "both", "left"]),
        "aliases": st.lists(st.sampled_from(["CPU", "cpu", "x"]), max_size=2),
        "dimensions": st.sampled_from([{"InstanceId": "{instance_id}"}, {"a": "b"}, {}]),
    },
)
_CATALOGUES = st.lists(_METRIC, max_size=3).map(lambda metrics: {"metrics": metrics})
_INVENTORIES = st.dictionaries(
    st.sampled_from(["web-1", "", "a\nb", "eu-west-1:i-0"]),
    st.fixed_dictionaries(
        {}, optional={key: st.sampled_from(["web", "", "x" * 300]) for key in ("role", "service", "shard")}
    ),
).map(lambda entries: {"instances": entries})


def _toml(value):
    """Give a value as TOML, as far as TOML has it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value)


_TOML = mutated(_CATALOGUES).map(
    lambda document: (
        "\n".join(f"{json.dumps(str(key))} = {_toml(item)}" for key, item in document.items())
        if isinstance(document, dict)
        else _toml(document)
    )
)
_FILES = _TOML.map(lambda text: text.encode("utf-8", "surrogatepass"))


@given(st.one_of(_FILES, _FILES, damaged(_FILES), st.binary(max_size=40)))
def test_a_catalogue_is_read_or_refused_by_name(tmp_path_factory, content):
    # GIVEN
    path = tmp_path_factory.getbasetemp() / "catalogue.toml"
    path.write_bytes(content)

    # WHEN
    found, refusal = outcome(lambda: catalogue.load(path), CatalogueError)

    # THEN what is read is written and read again as it is
    if found is None:
        assert refusal
        return
    again = tmp_path_factory.getbasetemp() / "again.toml"
    again.write_text(catalogue.dumps(found), encoding="utf-8")
    assert catalogue.load(again) == found


@given(st.one_of(json_bytes(_INVENTORIES), VALUES.map(lambda value: json.dumps({"instances": value}).encode())))
def test_an_inventory_is_read_or_refused(content):
    # GIVEN / WHEN
    found, refusal = outcome(lambda: inventory.parse(content.decode("utf-8", "replace")), InventoryError)

    # THEN what is read is written and read again as it is
    if found is None:
        assert refusal
        return
    assert inventory.parse(inventory.dumps(found)) == found
    assert all(item.instance_id == name for name, item in found.items())
