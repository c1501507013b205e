"""Corrupted test images: what becomes of accuracy and diversity when the test set shifts."""
