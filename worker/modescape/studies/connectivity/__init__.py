"""Straight lines between runs, as they are and once aligned."""
