"""Ports for the servers that tests start."""

from __future__ import annotations

import random
import socket

_chance = random.SystemRandom()  # tests seed the other one


def free_port() -> int:
    """Below those that the system gives to whoever connects: a server that begins, or begins again, a moment later
    meets no connection of another test there."""
    while True:
        with socket.socket() as probe:
            port = _chance.randrange(15_000, 30_000)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
