"""Snapshots of a journal: their catalog, their triggers, and whether one can be resumed."""
