"""The page docs/kinds.md: what is read of each packaged kind, and its price.

    python -m riskwatch_ml.ingest.kinds > docs/kinds.md

The text of a section is the comment at the top of the catalogue's file.
"""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

from riskwatch_ml.ingest import cost
from riskwatch_ml.schema import catalogue

if TYPE_CHECKING:
    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.schema.metric import Metric

_BOLD = ("Load", "Not read")
_HEAD = """\
# Kinds of resources

The packaged catalogues: what Riskwatch reads of each kind. The setting `RISKWATCH_CATALOGUE` names those of an
installation, separated by commas.
`python -m riskwatch_ml.ingest.kinds > docs/kinds.md` writes this page from `ml/riskwatch_ml/schema/catalogues/`.

- **metric, statistic**: the CloudWatch metric, and its statistic in a period. In rows of a coarser period, sums and
  counts are scaled to the period of a row, so that they stay comparable. Averages, minima, maxima and percentiles are
  those of the coarser period.
- **unit**: the unit of the feature.
- **bounds**: a value outside them is impossible, and refused. `[0, …]` has no upper bound.
- **exhausted**: the value from which the resource counts as exhausted. Only percentages and fixed limits have one.
- **harmful**: the harmful direction. *both* means harmful either way, or unknown.
- **absent**: the value of a row without a datapoint, for metrics that CloudWatch publishes only if something happened.
  The value of any other metric is missing then. A resource without any datapoint in a period has no row.
- **dimensions**: those of all metrics of a section, unless the table says otherwise. Metrics with further dimensions
  do not count.

Prices are list prices of GetMetricData for one instance and a month of 30 days, with hourly exports and a stream every
five minutes. `riskwatch cost --kind ec2=100 --kind rds=12` predicts the price of a fleet.
"""


def page() -> str:
    """Return the page, in Markdown."""
    return "\n".join((_HEAD, *map(section, catalogue.PROFILES)))


def section(name: str) -> str:
    """Return the section of the packaged catalogue of this name, in Markdown."""
    metrics = catalogue.load(name)
    price = cost.total([(metrics, 1)], cost.Plan())
    tags = f"tags of `{metrics.resource_type}`" if metrics.resource_type else "the inventory file"
    return "\n".join(
        (
            f"## {metrics.title} (`{name}`)\n",
            "\n\n".join(_paragraphs(name)),
            "\n| | |\n|---|---|",
            f"| load | {_load(metrics)} |",
            f"| dimensions | {_dimensions(metrics.metrics[0])} |",
            f"| roles and services | {tags} |",
            f"| missing data | {_missing_data(metrics)} |",
            f"| price of an instance and month | ${price.dollars:.2f} (exports ${price.exports.dollars:.2f}, stream "
            f"${price.streaming.dollars:.2f}) |\n",
            "| feature | metric | statistic | unit | bounds | exhausted | harmful | absent |",
            "|---|---|---|---|---|---|---|---|",
            *(_row(metric, metrics.metrics[0]) for metric in metrics.metrics),
            "",
        )
    )


def _missing_data(metrics: Catalogue) -> str:
    if metrics.silent_when_idle:
        return "not reported: CloudWatch has no datapoint of an instance without work"
    return "reported after three periods"


def _paragraphs(name: str) -> list[str]:
    """Return the comment at the top of a catalogue's file as paragraphs; each line that ends a sentence ends one."""
    lines = catalogue.PROFILES[name].read_text(encoding="utf-8").splitlines()
    paragraphs = [""]
    for line in takewhile(lambda line: line.startswith("#"), lines):
        paragraphs[-1] = f"{paragraphs[-1]} {line[1:].strip()}".strip()
        if line.endswith("."):
            paragraphs.append("")
    return [_emphasised(paragraph) for paragraph in paragraphs if paragraph]


def _emphasised(paragraph: str) -> str:
    word, colon, rest = paragraph.partition(":")
    return f"**{word}:**{rest}" if colon and word in _BOLD else paragraph


def _load(metrics: Catalogue) -> str:
    return ", else ".join(
        " and ".join(f"`{name}`{_anchors(metrics.by_name[name])}" for name in group) for group in metrics.load_metrics
    )


def _anchors(metric: Metric) -> str:
    """Return the levels that the metric excludes, in parentheses."""
    low, high = metric.never_high_below, metric.never_idle_above
    texts = [
        *([] if low is None else [f"below {_number(low)} never High Load"]),
        *([] if high is None else [f"above {_number(high)} never Idle"]),
    ]
    return f" ({', '.join(texts)})" if texts else ""


def _dimensions(metric: Metric) -> str:
    return ", ".join(f"`{name}={template}`" for name, template in metric.dimensions.items())


def _row(metric: Metric, first: Metric) -> str:
    source = f"{metric.namespace} `{metric.metric}`"
    if metric.dimensions != first.dimensions:
        source += f" with {_dimensions(metric)}"
    every = f", every {metric.period_s} s" if metric.period_s else ""
    bounds = (
        "" if metric.lower is None and metric.upper is None else f"[{_number(metric.lower)}, {_number(metric.upper)}]"
    )
    limits = (bounds, "" if metric.exhaustion is None else _number(metric.exhaustion), metric.direction)
    absent = "" if metric.absent is None else _number(metric.absent)
    return f"| {' | '.join((f'`{metric.name}`', source, metric.stat + every, metric.unit, *limits, absent))} |"


def _number(value: float | None) -> str:
    return "…" if value is None else f"{value:,g}" if abs(value) < 1000 else f"{value:,.0f}"


if __name__ == "__main__":
    print(page(), end="")
