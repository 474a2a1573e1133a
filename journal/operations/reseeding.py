"""Reseeding: the mark from which a process is one of several with the same history."""

import os
import time

from journal.events.process import Reseeded

GENERATION_SIZE = 16
"""Size of a generation, in bytes."""


def make_reseeded() -> Reseeded:
    """Return a Reseeded event with a new generation and the current time."""
    return Reseeded(generation=os.urandom(GENERATION_SIZE), realtime=time.time_ns())
