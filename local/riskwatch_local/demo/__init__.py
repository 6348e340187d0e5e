"""The demo: its data, stages and summary."""
