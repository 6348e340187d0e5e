"""Hooks that the Amazon provider does not have."""
