"""Rows to the live model: stream records, the live function, instances without rows."""
