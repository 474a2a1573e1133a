"""Merging of intermediate snapshots into the kept snapshots that follow them."""
