"""Fit, score and explain one model."""
