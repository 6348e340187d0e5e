"""export_metrics: export an interval of CloudWatch metrics to S3 and validate it."""

from datetime import timedelta

from airflow.sdk import Param, TriggerRule, dag, get_current_context, task

from riskwatch_airflow.assets import VALIDATED_METRICS
from riskwatch_airflow.wiring import common, heartbeat, interval_params, intervals
from riskwatch_ml.core import settings

# A manual run over weeks of a large fleet takes hours; a scheduled hour takes a minute.
LONGEST, LONGEST_FETCH = timedelta(hours=6), timedelta(hours=5)

DOC = """
### Export metrics

**Owner**: riskwatch. **Reads** CloudWatch (ListMetrics, GetMetricData), tags, `config/inventory.json`.
**Writes** `raw/`, `validated/` and `quarantine/` for exactly the interval of the run, and `inventory/` from the tags. A
rerun replaces only what differs. **Updates the asset** `validated_metrics`.

`fetch` runs once for each account and region of the settings. If some of them fail, `validate` continues with the rows
of the others, and `complete` fails and names the failed ones: clear their `fetch` together with its downstream tasks.

A run exports its data interval. Because CloudWatch receives values late, a scheduled run also reads the `reread_hours`
before its interval again, and the first run of a day (UTC) the `reread_days`. Hours that no run has exported, because
Airflow was down or runs failed, are read by the next scheduled run if they are less than 13 days old; its log lists
older ones. A manual run without `start` and `end` exports its data interval, or the last full hour if the DAG has no
schedule. To export past days: `airflow backfill create --dag-id export_metrics --from-date … --to-date …`. Add
`--reprocess-behavior failed` if runs of these days have failed.

CloudWatch keeps 60 s data for 15 days, 300 s data for 63 days and 3,600 s data for 455 days. The export refuses an
interval beyond its limit. With `coarsen` (in a backfill: `--dag-run-conf '{"coarsen": true}'`) it reads coarser rows
instead, and the log says so.

The label of each `fetch` shows its rows, its calls beside the minimum possible, and metrics and dollars, predicted and
actual. The asset event has the totals.

**When it fails**
- *no datapoint*: the message names the query. The region or the connection is wrong, or the agent does not report.
- *has no datapoint* for one metric (a warning): the metric is unknown, has other dimensions, or has vanished; the log
  says which.
- *is not allowed*, *may not be read*: the role lacks the action in the message; `infra/riskwatch_infra/stack.yaml` and
  `infra/riskwatch_infra/reader.yaml` grant it.
- *credentials are not valid any more*: renew the credentials of the connection, then clear the task.
- *throttled for 10 minutes*: nothing was written, and the retry starts from the beginning. Raise the quota, or find the
  other callers.
- *keeps periods of … for … days*: choose a later start, or set `coarsen`.
- *is no Parquet file*, *was replaced by another writer*: the message names the object and the fix.
- *the rows are not a table of metric rows*: the catalogue changed between the two tasks; clear `fetch`.
- *N of M rows were quarantined*: a bound or a unit in the catalogue is wrong. The asset was not updated.
  `docs/runbooks/quarantine.md` says how to restore the rows.
"""
COARSEN = Param(
    False, type="boolean", title="coarsen", description="read data that are too old for the period in coarser rows"
)


@dag(
    schedule=intervals("export_metrics"),
    params={**interval_params("manual run: interval to export, in UTC"), "coarsen": COARSEN},
    tags=["riskwatch", "data"],
    doc_md=DOC,
    **common(LONGEST),
)
def export_metrics() -> None:
    """Wire fetch (once per account and region), validate, complete and the heartbeat."""

    @task(map_index_template="{{ told }}", execution_timeout=LONGEST_FETCH)
    def fetch(account_region: str) -> dict:
        from riskwatch_airflow.tasks import export

        context = get_current_context()
        context["told"] = account_region
        fetched = export.fetch(context, account_region)
        context["told"] = fetched["told"]
        return fetched

    # A failed account or region must not block the rows of the others.
    @task(outlets=[VALIDATED_METRICS], trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS)
    def validate(fetched: list[dict]) -> dict:
        from riskwatch_airflow.tasks import export

        return export.validate(get_current_context(), export.joined(fetched))

    @task(trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS)
    def complete(fetched: list[dict]) -> None:
        from riskwatch_airflow.tasks import export

        export.complete(fetched)

    fetched = fetch.expand(account_region=[account_region.name for account_region in settings.account_regions()])
    [validate(fetched), complete(fetched)] >> heartbeat()


export_metrics()
