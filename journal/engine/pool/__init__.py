"""Pools: worker processes with clones that wait for sessions."""
