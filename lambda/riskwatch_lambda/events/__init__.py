"""One module for each event that the function answers."""
