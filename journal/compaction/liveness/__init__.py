"""Liveness analysis, which finds the events on which the kept states depend."""
