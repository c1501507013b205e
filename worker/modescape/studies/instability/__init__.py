"""Branches of one training: how early it is settled where it ends."""
