"""A local Lambda environment and the event source that feeds it."""
