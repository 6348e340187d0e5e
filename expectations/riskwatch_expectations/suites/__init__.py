"""Suites of expectations, one module per suite."""
