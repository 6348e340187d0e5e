"""The artifact: a model and the code that serves it in one zip."""
