"""Replay hosts: an in-memory model and a real directory."""
