"""Episodes of instances: their life cycle and their storage."""
