"""What several figures of one subject share: how their results are read and drawn."""
