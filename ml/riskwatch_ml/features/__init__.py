"""Feature engineering: from metric rows to the vectors that a model is fitted to."""
