"""Pages on the Numenta Anomaly Benchmark (NAB), beside the published outputs of its detectors.

    python -m bench.external DIR [--files PATTERN] [--family F] [--seed N] [--json FILE]

DIR is a copy of github.com/numenta/NAB; Riskwatch contains none of it. The command reads these files:

- data/<folder>/<file>.csv: timestamp, value
- labels/combined_windows.json: the windows of the anomalies of each file
- results/<detector>/<folder>/<detector>_<file>.csv: timestamp, anomaly_score
- config/thresholds.json: the published threshold of each detector and profile

PATTERN chooses among the <folder>/<file>.csv, by default the series of AWS CloudWatch. Each file is a fleet of one
instance: the backtest fits to the probationary period and replays the rest. A period of less than a day gives no
baseline, so that Riskwatch hardly pages before its first refresh. A page of Riskwatch is the row that opens an episode.
A page of a detector is a row whose score reaches its threshold. NAB chose the thresholds for the best score on the
labels of all its files; Riskwatch gets no label.

A table for each profile has the score (0 is the null detector, 100 the perfect one), the number of pages, the windows
with a page and the pages outside windows. `bench.external.scoring` has the rules and their source.
"""
