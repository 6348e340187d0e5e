"""The page of the packaged kinds is the one that the catalogues give."""

from pathlib import Path

from riskwatch_ml.ingest import kinds
from riskwatch_ml.schema import catalogue

PAGE = Path(__file__).parents[4] / "docs" / "kinds.md"


def test_the_page_is_that_of_the_catalogues():
    # GIVEN the page, WHEN it differs, THEN `python -m riskwatch_ml.ingest.kinds > docs/kinds.md` writes it
    assert PAGE.read_text(encoding="utf-8") == kinds.page()


def test_a_section_has_every_metric_the_load_and_the_price():
    # GIVEN / WHEN
    text = kinds.section("dynamodb")

    # THEN
    metrics = catalogue.load("dynamodb")
    assert [name for name in metrics.names if f"\n| `{name}` | " not in text] == []
    assert "| load | `consumed_read_units` and `consumed_write_units` |" in text
    assert "with `TableName={instance_id}`, `Operation=GetItem` | Average | ms | [0, …] |  | up |  |" in text
    assert "| roles and services | tags of `dynamodb:table` |" in text
    # Ten metrics, 720 exports and 8,640 runs of the stream: 93,600 metrics.
    assert "$0.94 (exports $0.07, stream $0.86)" in text
    assert "\n**Load:** a table on demand has no fixed capacity." in text
