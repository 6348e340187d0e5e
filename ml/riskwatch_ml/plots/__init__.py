"""The figures of a candidate."""
