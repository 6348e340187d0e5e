"""The replay of past metrics and its report."""
