"""Snapshots of a running guest: suspend, capture, store and restore its state."""
