"""Runs as Airflow describes them to a task: the SDK's own objects, and a supervisor that keeps XComs in memory."""

import json
from uuid import UUID

from airflow.sdk import DAG, BaseOperator
from airflow.sdk.api.datamodels._generated import DagRun, DagRunState, TIRunContext
from airflow.sdk.definitions.xcom_arg import PlainXComArg
from airflow.sdk.exceptions import ErrorType
from airflow.sdk.execution_time.comms import (
    ErrorResponse,
    GetXComCount,
    GetXComSequenceItem,
    GetXComSequenceSlice,
    SetXCom,
    XComCountResponse,
    XComSequenceIndexResult,
    XComSequenceSliceResult,
)
from airflow.sdk.execution_time.lazy_sequence import LazyXComSequence
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from airflow.sdk.serde import deserialize, serialize
from airflow.sdk.timezone import coerce_datetime
from pydantic import JsonValue, TypeAdapter

_ID = UUID(int=1)
_EXTRA = TypeAdapter(dict[str, JsonValue])


def run(run_after, run_type="scheduled", *, started=None, start=None, end=None, dag_id="dag", requests=()):
    """Return the run as `context["dag_run"]` has it; it started when it was due if `started` is not given.

    `requests` are the extras of the events that started it, by asset: (asset, extra).
    """
    made = DagRun(
        dag_id=dag_id,
        run_id=f"{run_type}__{run_after.isoformat()}",
        logical_date=start or run_after,
        data_interval_start=start or run_after,
        data_interval_end=end or run_after,
        run_after=run_after,
        start_date=started or run_after,
        end_date=None,
        run_type=run_type,
        state=DagRunState.RUNNING,
        consumed_asset_events=[_event(asset, extra, run_after) for asset, extra in requests],
        partition_key=None,
    )
    # The task gets it over the wire: its times have pydantic's zone.
    return DagRun.model_validate_json(made.model_dump_json())


def _event(asset, extra, moment):
    source = dict.fromkeys(("source_task_id", "source_dag_id", "source_run_id", "source_map_index"))
    named = {"name": asset.name, "uri": asset.uri, "extra": {}}
    return {"asset": named, "extra": extra, **source, "source_aliases": [], "timestamp": moment}


def times(start, end):
    """Return the data interval as the context has it: the SDK coerces both ends to pendulum values."""
    return {"data_interval_start": coerce_datetime(start), "data_interval_end": coerce_datetime(end)}


def context(from_run, task_id="task"):
    """Return the context of a task as the SDK builds it in the task's process."""
    task = BaseOperator(task_id=task_id, dag=DAG(from_run.dag_id, schedule=None))
    ti = RuntimeTaskInstance.model_construct(
        id=_ID,
        task_id=task_id,
        dag_id=from_run.dag_id,
        run_id=from_run.run_id,
        try_number=1,
        map_index=-1,
        dag_version_id=_ID,
        task=task,
        start_date=from_run.start_date,
        _ti_context_from_server=TIRunContext(dag_run=from_run, max_tries=0),
    )
    return ti.get_template_context()


class Supervisor:
    """Answers what task instances ask about XComs, which it keeps by (task, key); notes what is asked."""

    def __init__(self):
        self.xcoms = {}
        self.mapped = []
        self.asked = []

    def send(self, msg):
        self.asked.append(msg)
        match msg:
            case SetXCom():
                self.xcoms[msg.task_id, msg.key] = as_json(msg.value)
                return None
            case GetXComSequenceSlice():
                held = self.xcoms.get((msg.task_id, msg.key))
                return XComSequenceSliceResult(root=[] if held is None else [held])
            case GetXComCount():
                return XComCountResponse(len=len(self.mapped))
            case GetXComSequenceItem() if msg.offset < len(self.mapped):
                return XComSequenceIndexResult(root=self.mapped[msg.offset])
            case GetXComSequenceItem():
                return ErrorResponse(error=ErrorType.XCOM_NOT_FOUND)
        raise AssertionError(f"a task asks for {msg!r}")

    def of_mapped(self, context, values):
        """Return what a task gets of a mapped one of which these have returned; those that failed are not among them.

        Each item is asked for when it is needed, and again each time.
        """
        self.mapped = [as_json(serialize(value)) for value in values]
        return LazyXComSequence(xcom_arg=PlainXComArg(context["task"]), ti=context["ti"])


def as_json(value):
    """Return what a JSON column gives back. PostgreSQL refuses NaN and infinities there, and SQLite does not."""
    return json.loads(json.dumps(value, allow_nan=False))


def handed_on(value):
    """Return what a task that follows gets of what a task has returned."""
    return deserialize(as_json(serialize(value)))


def check_events(outlet_events):
    """Assert that what a task announces of its assets can be sent: JSON, no tuple and nothing of numpy."""
    for accessor in outlet_events.values():
        as_json(_EXTRA.validate_python(accessor.extra, strict=True))
