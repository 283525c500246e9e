"""From a plan to an array program."""
