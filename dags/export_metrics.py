"""export_metrics: an interval of CloudWatch metrics to S3, validated by Great Expectations."""

from datetime import timedelta

from airflow.sdk import Param, TriggerRule, dag, get_current_context, task

from riskwatch_airflow.assets import VALIDATED_METRICS
from riskwatch_airflow.wiring import common, heartbeat, interval_params, intervals
from riskwatch_ml.core import settings

# Weeks of a large fleet by hand take hours; an hour on the schedule takes a minute.
LONGEST, LONGEST_FETCH = timedelta(hours=6), timedelta(hours=5)

DOC = """
### Export metrics

**Owner**: riskwatch. **Reads** CloudWatch (ListMetrics, GetMetricData), tags, `config/inventory.json`.
**Writes** `raw/`, `validated/` and `quarantine/` for exactly the run's interval, and `inventory/` as the tags say;
a rerun replaces only what differs. **Announces** `validated_metrics`.

`fetch` runs once for each account and region of the settings. Where some of them fail, `validate` goes on with the
rows of the others, and `complete` fails and names them: clear their `fetch` with what comes after it.

A run works on its data interval; a scheduled one reads the `reread_hours` before it again, the first one of a day (UTC)
the `reread_days`, because values come late. Hours that no run has exported, because Airflow was down or runs failed,
are read by the next scheduled run if they are less than 13 days old; its log names older ones. Started by hand without
`start` and `end`, a run takes its data interval, or the last whole hour if the DAG has no schedule. For days of the
past: `airflow backfill create --dag-id export_metrics --from-date … --to-date …`, with `--reprocess-behavior failed` if
runs of these days have failed.

CloudWatch keeps 60 s data for 15 days, 300 s for 63 days, 3,600 s for 455 days. An interval beyond its cliff is
refused, or with `coarsen` (a backfill: `--dag-run-conf '{"coarsen": true}'`) read in coarser rows, which the log says.

Each `fetch` is labelled with its rows, its calls beside the fewest possible, and metrics and dollars, predicted and
actual; the asset event has the sums.

**When it fails**
- *no datapoint*: the message says what was asked. Wrong region or connection, or the agent does not report.
- *has no datapoint* of one metric (a warning): unknown, other dimensions, or vanished; the log says which.
- *is not allowed*, *may not be read*: the role lacks the action that is named; `infra/riskwatch_infra/stack.yaml` and
  `infra/riskwatch_infra/reader.yaml` grant them.
- *credentials are not valid any more*: renew those of the connection, then clear the task.
- *throttled for 10 minutes*: nothing was written; the retry begins anew. Raise the quota, or see what else calls.
- *keeps periods of … for … days*: start later, or set `coarsen`.
- *is no Parquet file*, *was replaced by another writer*: the message names the object and what to do.
- *the rows are not a table of metric rows*: the catalogue changed between the two tasks; clear `fetch`.
- *N of M rows were quarantined*: a bound or a unit in the catalogue is wrong, and nothing was announced;
  `docs/runbooks/quarantine.md` says how rows come back.
"""
COARSEN = Param(
    False, type="boolean", title="coarsen", description="read what is too old for the period in coarser rows"
)


@dag(
    schedule=intervals("export_metrics"),
    params={**interval_params("by hand: interval to export, in UTC"), "coarsen": COARSEN},
    tags=["riskwatch", "data"],
    doc_md=DOC,
    **common(LONGEST),
)
def export_metrics() -> None:
    """Wire fetch, once for each shard, validate, complete and the heartbeat."""

    @task(map_index_template="{{ told }}", execution_timeout=LONGEST_FETCH)
    def fetch(shard: str) -> dict:
        from riskwatch_airflow.tasks import export

        context = get_current_context()
        context["told"] = shard
        fetched = export.fetch(context, shard)
        context["told"] = fetched["told"]
        return fetched

    # What one account or region refuses must not keep the rows of the others back.
    @task(outlets=[VALIDATED_METRICS], trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS)
    def validate(fetched: list[dict]) -> dict:
        from riskwatch_airflow.tasks import export

        return export.validate(get_current_context(), export.joined(fetched))

    @task(trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS)
    def complete(fetched: list[dict]) -> None:
        from riskwatch_airflow.tasks import export

        export.complete(fetched)

    fetched = fetch.expand(shard=[shard.name for shard in settings.shards()])
    [validate(fetched), complete(fetched)] >> heartbeat()


export_metrics()
