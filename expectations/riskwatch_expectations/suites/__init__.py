"""The expectations, one module for each suite."""
