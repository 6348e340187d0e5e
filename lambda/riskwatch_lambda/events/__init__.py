"""One module per event that the function answers: a batch, a tick, a self-test."""
