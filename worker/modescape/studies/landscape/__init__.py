"""Cuts through the loss landscape."""
