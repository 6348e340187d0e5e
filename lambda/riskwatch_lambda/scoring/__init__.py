"""Scoring: stream records in, verdicts and labelled rows out."""
