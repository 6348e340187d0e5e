"""The commands that read CSV files."""
