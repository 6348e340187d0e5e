"""Commands that read CSV files."""
