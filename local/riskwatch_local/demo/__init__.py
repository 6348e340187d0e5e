"""The demo: its data, its story and its summary."""
