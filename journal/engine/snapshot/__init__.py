"""Snapshots of a running guest: suspend, capture, store, restore and rebuild its state."""
