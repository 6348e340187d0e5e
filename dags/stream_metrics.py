"""stream_metrics: what has settled since the last run to the Kinesis stream, every five minutes."""

from datetime import timedelta

from airflow.sdk import Param, dag, get_current_context, task

from riskwatch_airflow.wiring import ALONE, common, interval_params, moments

# A call that hangs must not hold up the periods that follow.
LONGEST = timedelta(minutes=10)
LONGEST_RUN = timedelta(minutes=30)

DOC = """
### Stream metrics

**Owner**: riskwatch. **Reads** the live function (what the model needs), CloudWatch, `config/inventory.json`,
`stream/mark.json` (how far the stream is), `stream/seen.json` (when each instance of the inventory last had a row).
**Writes** the new rows to the Kinesis stream, those of a service in packs, then `stream/seen.json` and
`stream/mark.json`; then it sends the live function a tick, which sends unsent alerts again, tells what is over, sends
the digest at its hour, and closes episodes that had no row for a day.

An instance of the inventory without a row for three periods is told as silent, with the others of its service; where
nearly all of them are, one message says that. Instances that are in no inventory come and go without a word. A run by
hand says nothing about silence.

A run begins where the last complete one ended: late, failed and skipped runs leave no hole. At most six hours are
caught up; what lies before is told in a warning of `publish`, with the start and end to give by hand.

An account and region that cannot be read does not stop the others: it catches up when it can be read again, its
instances are not told as silent meanwhile, and `complete` fails and names it.

By hand, `start` and `end` stream a stretch of the past; the mark stays where it is. Rows that were streamed before keep
their first label. A stretch that is too long for one run is refused, with the length that is not. `digest` sends
what waits for the digest now.

**When it is skipped**: no model is promoted yet; see `promote_model`.

**When it fails**
- *the rows of … were not streamed*: what is wrong with that account and region is in the message.
- *records still refused*: the stream has too few shards, or is throttled; the next run sends the same rows again.
- *the live function raised*: read its log; `promote_model` says how to go back to an earlier model.
- *mark.json cannot be read*: delete it; the next run streams the newest period.
- *the live model needs …*: the catalogue lost a metric that the model was trained on.
"""


@dag(
    schedule=moments("stream_metrics"),
    params={
        **interval_params("by hand: stretch to stream, in UTC"),
        "digest": Param(False, type="boolean", title="digest", description="send the digest now"),
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

        return stream.tick(published, digest=get_current_context()["params"]["digest"])

    @task(execution_timeout=LONGEST)
    def complete(published: dict) -> None:
        from riskwatch_airflow.tasks import stream

        stream.complete(published)

    published = publish()
    # The tick comes first: what is wrong with one account must not hold up the messages about the others.
    tick(published) >> complete(published)


stream_metrics()
