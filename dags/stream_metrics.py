"""stream_metrics: the newest period of every instance to the Kinesis stream, every five minutes."""

from datetime import timedelta

from airflow.sdk import dag, get_current_context, task

from riskwatch_airflow.wiring import COMMON, interval_params, moments

# A call that hangs must not hold up the periods that follow: only one run is active at a time.
LONGEST = timedelta(minutes=10)

DOC = """
### Stream metrics

**Owner**: riskwatch. **Reads** the live function (what the model needs), CloudWatch, `config/inventory.json`.
**Writes** one record per instance to the Kinesis stream, then sends the live function a tick, which sends unsent alerts
again, closes what expired and notices silent instances.

By hand, `start` and `end` stream a stretch of the past. Rows that were streamed before keep their first label.

**When it is skipped**: no model is promoted yet; see `promote_model`.

**When it fails**
- *records still refused*: the stream has too few shards, or is throttled; the next run sends the next period, and
  `start`/`end` fill the hole.
- *the live function raised*: read its log; `riskwatch` can roll back to the version before.
- *the live model needs …*: the catalogue lost a metric that the model was trained on.
"""


@dag(
    schedule=moments("stream_metrics"),
    params=interval_params("by hand: stretch to stream, in UTC"),
    tags=["riskwatch", "live"],
    doc_md=DOC,
    **COMMON,
)
def stream_metrics() -> None:
    """Wire publish and tick."""

    @task(execution_timeout=LONGEST)
    def publish() -> dict:
        from riskwatch_airflow.tasks import streaming

        return streaming.publish(get_current_context())

    @task(execution_timeout=LONGEST)
    def tick(published: dict) -> dict:
        from riskwatch_airflow.tasks import streaming

        return streaming.tick(published)

    tick(publish())


stream_metrics()
