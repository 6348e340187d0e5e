"""Send rows to the live model: stream records, the function, missing data."""
