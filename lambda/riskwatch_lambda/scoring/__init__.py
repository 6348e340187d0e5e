"""Stream records in, verdicts and labelled rows out."""
