"""Liveness analysis: which events the kept states of a journal depend on."""
