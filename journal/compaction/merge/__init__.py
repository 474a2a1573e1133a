"""Merging of dropped snapshots into the kept snapshots that follow them."""
