"""Liveness analysis: finds the events that the kept states depend on."""
