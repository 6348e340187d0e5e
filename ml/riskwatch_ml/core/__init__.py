"""Foundations of every other room: clock, AWS, settings, accounts and regions."""
