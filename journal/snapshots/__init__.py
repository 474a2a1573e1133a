"""Snapshots of a journal: their catalog, their triggers, and whether a resume can use them."""
