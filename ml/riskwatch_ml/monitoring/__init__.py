"""The watch over the model in service."""
