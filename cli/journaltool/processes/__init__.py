"""Processes that run guests: find them, signal them and wait for their end."""
