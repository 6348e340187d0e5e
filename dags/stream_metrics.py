"""stream_metrics: send settled rows to the Kinesis stream every five minutes."""

from datetime import timedelta

from airflow.sdk import Param, dag, get_current_context, task

from riskwatch_airflow.wiring import ALONE, common, interval_params, moments

# A call that hangs must not delay the following periods.
LONGEST = timedelta(minutes=10)
LONGEST_RUN = timedelta(minutes=30)

DOC = """
### Stream metrics

**Owner**: riskwatch. **Reads** the live function (the features of the model), CloudWatch, `config/inventory.json`,
`stream/mark.json` (the end of the last complete run), `stream/seen.json` (the last row of each instance of the
inventory).
**Writes** the new rows to the Kinesis stream, in packs per service, then `stream/seen.json` and `stream/mark.json`.
Then it sends a tick to the live function. The tick sends unsent alerts again, reports resolved episodes, sends the
daily summary at its hour, and closes episodes without a row for a day.

If an instance of the inventory has no row for three periods, an alert reports it as without data, together with the
other such instances of its service. If nearly all instances are without data, a single message reports that. Instances
that are in no inventory can appear and disappear without an alert. A manual run does not report missing data.

A run begins at the end of the last complete one, so late, failed and skipped runs leave no gap. A run catches up six
hours at most; for older rows `publish` logs a warning with the start and end to use in a manual run.

If an account and region cannot be read, the others continue, and `complete` fails and names it. It catches up as soon
as it can be read again; meanwhile its instances are not reported as without data.

In a manual run, `start` and `end` select a past interval; the mark does not move. Rows that were streamed before keep
their first label. A run refuses an interval that is too long, and names the longest possible one. `digest` sends the
daily summary now.

**When it is skipped**: no model is promoted yet; see `promote_model`.

**When it fails**
- *the rows of … were not streamed*: the message says what is wrong with that account and region.
- *records still refused*: the stream has too few Kinesis shards, or is throttled; the next run sends the same rows
  again.
- *the live function raised*: read its log; `promote_model` says how to roll back to an earlier model.
- *mark.json cannot be read*: delete it; the next run streams the newest period.
- *the live model needs …*: the catalogue lacks a metric that the model was trained on.
"""


@dag(
    schedule=moments("stream_metrics"),
    params={
        **interval_params("manual run: interval to stream, in UTC"),
        "digest": Param(False, type="boolean", title="daily summary", description="send the daily summary now"),
    },
    tags=["riskwatch", "live"],
    doc_md=DOC,
    **common(LONGEST_RUN),
)
def stream_metrics() -> None:
    """Wire publish, tick and complete."""

    @task(execution_timeout=LONGEST, **ALONE)
    def publish() -> dict:
        from riskwatch_airflow.tasks import stream

        return stream.publish(get_current_context())

    @task(execution_timeout=LONGEST, **ALONE)
    def tick(published: dict) -> dict:
        from riskwatch_airflow.tasks import stream

        return stream.tick(published, daily_summary=get_current_context()["params"]["digest"])

    @task(execution_timeout=LONGEST)
    def complete(published: dict) -> None:
        from riskwatch_airflow.tasks import stream

        stream.complete(published)

    published = publish()
    # The tick comes first: a failed account must not delay the messages about the others.
    tick(published) >> complete(published)


stream_metrics()
