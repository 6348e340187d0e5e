"""Monitoring of the model in service."""
