"""Candidates, guards and the choice between them."""
