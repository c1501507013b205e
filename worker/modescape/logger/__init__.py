"""A training loop of one's own tells Modescape as it goes; see `ensemble`."""
