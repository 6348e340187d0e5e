"""The episodes of instances: their life cycle and where it is stored."""
