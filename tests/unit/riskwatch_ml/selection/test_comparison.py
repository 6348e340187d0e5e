from riskwatch_ml.selection import comparison


def test_comparison_table():
    # GIVEN three candidates, one vetoed with a bar in the text, one without a figure
    ranking = [
        {"family": "kmeans", "figures": {"odd": 12345.6, "injected_vus_pr": 0.81234}, "vetoes": []},
        {"family": "dbscan", "figures": {"injected_vus_pr": float("nan")}, "vetoes": ["a|b", "c"]},
    ]
    winner = {**ranking[0], "kind": "refresh", "why": "kmeans stays", "ask": "a fifth changes"}
    # THEN the decision comes first, then known figures, the winner is bold, and no cell breaks the table
    assert comparison.describe(ranking, winner).splitlines() == [
        "**kmeans**, a refresh. kmeans stays. It waits for an approval: a fifth changes. Candidates are ranked by "
        "VUS-PR on injected incidents, those within 0.005 of the best by their alerts; 1 of 2 vetoed.",
        "",
        "|  | family | injected vus pr | odd | vetoes |",
        "| --- | --- | --- | --- | --- |",
        "| 1 | **kmeans** | 0.812 | 12,346 | none |",
        "| 2 | dbscan | – | – | a\\|b; c |",
    ]
