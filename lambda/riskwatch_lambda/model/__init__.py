"""The model of an artifact: a verified document and its arrays, ready to score."""
