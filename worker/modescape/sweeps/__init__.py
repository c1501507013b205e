"""Sweeps: one experiment for every combination of values of some fields of a spec, and what they say together."""
