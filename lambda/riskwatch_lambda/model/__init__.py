"""The model document and its arrays, verified and ready to score."""
