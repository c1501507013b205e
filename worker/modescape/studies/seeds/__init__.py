"""Initial weights or batch order: which of them makes functions differ."""
