"""export_metrics: an interval of CloudWatch metrics to S3, validated by Great Expectations."""

from airflow.sdk import dag, get_current_context, task

from riskwatch_airflow.assets import VALIDATED_METRICS
from riskwatch_airflow.wiring import COMMON, interval_params, intervals

DOC = """
### Export metrics

**Owner**: riskwatch. **Reads** CloudWatch (ListMetrics, GetMetricData), `config/inventory.json`.
**Writes** `raw/`, `validated/` and `quarantine/` for exactly the run's interval; a rerun replaces it.
**Announces** `validated_metrics`.

A run works on its data interval; started by hand without one, give `start` and `end`. For days of the past:
`airflow backfill create --dag-id export_metrics --from-date … --to-date …`. CloudWatch keeps 300 s data for 63 days.

**When it fails**
- *no datapoint*: the message says what was asked. Wrong region or connection, or the agent does not report.
- *may not be read*: the role lacks `cloudwatch:GetMetricData` or `cloudwatch:ListMetrics`.
- *the rows are not a table of metric rows*: the catalogue changed between the two tasks; clear `fetch`.
- *all rows were quarantined*: read `reasons` under `quarantine/`; a bound or a unit in the catalogue is wrong.
"""


@dag(
    schedule=intervals("export_metrics"),
    params=interval_params("by hand: interval to export, in UTC"),
    tags=["riskwatch", "data"],
    doc_md=DOC,
    **COMMON,
)
def export_metrics() -> None:
    """Wire fetch and validate."""

    @task
    def fetch() -> dict:
        from riskwatch_airflow.tasks import export

        return export.fetch(get_current_context())

    @task(outlets=[VALIDATED_METRICS])
    def validate(fetched: dict) -> dict:
        from riskwatch_airflow.tasks import export

        return export.validate(get_current_context(), fetched)

    validate(fetch())


export_metrics()
