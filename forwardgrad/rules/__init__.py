"""Learning rules: which credit paths count, and the coordinates of a rule beside its paths."""
